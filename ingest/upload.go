package ingest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
)

const (
	// minRate is how many bytes a second a body must bring, once grace is over: slower ones hold room that others need.
	minRate = 16 << 10
	grace   = 2 * time.Second
)

// upload is a request's body on its way in, with the room that it has.
type upload struct {
	in      *Ingest
	w       http.ResponseWriter
	r       *http.Request
	tenant  string
	room    int64
	waited  time.Duration // for room
	reading time.Duration // time that the sender took
	body    []byte
}

// receive reads the request's body, all of it or none. Room for what exceeds the first part is taken once that is there.
func (u *upload) receive(size int64) *api.Problem {
	first := min(size, firstPart)
	if p := u.enter(weight(first), true); p != nil {
		return p
	}
	// Room for the body and for the read that finds its end, so that it is not copied.
	u.body = make([]byte, 0, first+1)
	ended, p := u.read(int(first) + 1)
	if p != nil || ended {
		return p
	}
	if size <= firstPart { // More came than was announced or is allowed.
		return u.in.tooLarge()
	}
	if p := u.enter(4*(size-first), false); p != nil {
		return p
	}
	u.body = append(make([]byte, 0, size+1), u.body...)
	ended, p = u.read(int(size) + 1)
	if p == nil && !ended {
		p = u.in.tooLarge()
	}
	return p
}

// enter takes room. The time limit is for what Fanfare does, not for what the sender's line takes.
func (u *upload) enter(bytes int64, small bool) *api.Problem {
	began := time.Now()
	ctx, cancel := context.WithTimeout(u.r.Context(), u.in.cfg.Timeout-u.waited)
	defer cancel()
	err := u.in.door.enter(ctx, u.tenant, bytes, small)
	u.waited += time.Since(began)
	if err != nil {
		return crowded()
	}
	u.room += bytes
	return nil
}

// crowded answers that the request found no room in time.
func crowded() *api.Problem {
	return problem(http.StatusServiceUnavailable, "too many requests wait; nothing was stored: send it again later")
}

// leave gives the room back.
func (u *upload) leave() {
	if u.room > 0 {
		u.in.door.leave(u.tenant, u.room)
	}
}

// read reads until the body ends or has so many bytes, and reports whether it ended.
func (u *upload) read(most int) (ended bool, p *api.Problem) {
	control := http.NewResponseController(u.w)
	for len(u.body) < most {
		began := time.Now()
		due := grace + time.Duration(len(u.body))*time.Second/minRate - u.reading
		_ = control.SetReadDeadline(began.Add(due)) // not every writer has deadlines
		n, err := u.r.Body.Read(u.body[len(u.body):min(most, cap(u.body))])
		u.body = u.body[:len(u.body)+n]
		u.reading += time.Since(began)
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return true, nil
		}
		if err != nil {
			p, _ := api.ProblemOf(u.r.Context(), err)
			return false, p
		}
	}
	return false, nil
}
