package webhook

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/egress"
)

// request is what differs between two requests of one plan.
type request struct {
	header    http.Header
	body      []byte
	until     time.Time
	progress  *egress.Progress
	transport http.RoundTripper
	conceal   *conceal // nil for a subscription without auth
}

// exchangeByRoute sends the request and reads the answer, all of it in the connection's time.
func (p *Poster) exchangeByRoute(ctx context.Context, plan *plan, post *egress.Post, r *Result) {
	post.BodyTime, post.Resends = p.cfg.BodyTime, plan.resends
	resp, err := plan.route.Post(ctx, post)
	p.countResent(r, post.Resent)
	if errors.Is(err, egress.ErrOffRoute) {
		p.exchangeByClient(ctx, plan, post, r)
		return
	}
	if err != nil {
		r.lost(ctx, !time.Now().Before(post.Until), err, &post.Progress)
	} else {
		defer resp.Body.Close()
		p.answered(ctx, resp, plan.conceal, r)
	}
	r.finish(plan.conceal, &post.Progress)
}

// exchangeByClient sends the request and reads the answer, all of it under one deadline.
func (p *Poster) exchangeByClient(ctx context.Context, plan *plan, post *egress.Post, r *Result) {
	out := request{
		header: plan.headers(post.Header), body: post.Body, until: post.Until,
		progress: new(egress.Progress), transport: p.transport, conceal: plan.conceal,
	}
	p.exchange(ctx, plan, &out, r)
	r.finish(out.conceal, out.progress)
}

// finish takes credentials out of the result, and keeps what is only known in the end.
func (r *Result) finish(conceal *conceal, progress *egress.Progress) {
	conceal.result(r)
	r.Exchange = progress.Exchange()
	if r.Reason != outcome.ReasonOK || r.test {
		r.ResponseHeaders = keptHeaders(r.headers, conceal)
	}
	r.headers = nil
}

func (p *Poster) exchange(parent context.Context, plan *plan, out *request, r *Result) {
	ctx, cancel := context.WithDeadlineCause(egress.WithTenant(parent, plan.subscription.Tenant), out.until, errTimeout)
	defer cancel()
	if plan.certificate != nil {
		transport, id, err := p.identities.take(plan.certificate)
		if err != nil {
			r.fail(outcome.ReasonConfig, err)
			return
		}
		defer p.identities.release(id)
		out.transport = transport
	}
	var resp *http.Response
	var err error
	if plan.tokens == nil {
		resp, err = p.post(ctx, plan, out, r)
	} else {
		resp, err = p.postWithToken(ctx, plan, out, r)
	}
	if err != nil {
		r.lost(parent, ctx.Err() != nil, err, out.progress)
		return
	}
	defer resp.Body.Close()
	if resp.ContentLength != 0 {
		defer time.AfterFunc(p.cfg.BodyTime, cancel).Stop()
	}
	p.answered(parent, resp, out.conceal, r)
}

// answered judges an answer and reads it; the caller closes it.
func (p *Poster) answered(parent context.Context, resp *http.Response, conceal *conceal, r *Result) {
	r.Status, r.headers = resp.StatusCode, resp.Header
	r.Reason = outcome.ReasonOf(resp.StatusCode)
	r.judgeHeader(resp)
	if r.Reason == outcome.ReasonProtocol {
		return // Nothing that follows can be relied upon; 101 has no body but the bare connection.
	}
	kept, err := p.read(resp, conceal)
	r.Response = kept
	if r.Reason == outcome.ReasonOK && err != nil && parent.Err() == nil && breaksFraming(err) {
		r.fail(outcome.ReasonProtocol, err)
	}
}

// post makes the request.
func (p *Poster) post(ctx context.Context, plan *plan, out *request, r *Result) (*http.Response, error) {
	req := plan.request.WithContext(egress.WithProgress(ctx, out.progress))
	req.Header = out.header
	req.ContentLength = int64(len(out.body))
	// A bytes.Reader in a NopCloser is what net/http writes together with the header, in one packet.
	req.Body = io.NopCloser(bytes.NewReader(out.body))
	resends := resends{body: out.body, most: plan.resends}
	req.GetBody = resends.next
	resp, err := out.transport.RoundTrip(req)
	p.countResent(r, resends.made)
	return resp, err
}

func (p *Poster) countResent(r *Result, n int) {
	if n > 0 {
		r.Resent += n
		p.resent.Add(uint64(n))
	}
}

// read takes the kept part of a response, and a little more where that lets the connection be used
// again. It returns an error only where the body did not end as it should.
func (p *Poster) read(resp *http.Response, conceal *conceal) ([]byte, error) {
	if resp.ContentLength == 0 {
		return nil, nil
	}
	buf := p.buffers.Get().(*[maxResponse]byte)
	defer p.buffers.Put(buf)
	n, err := fill(resp.Body, buf[:])
	kept := sanitize(conceal.bytes(buf[:n], err == nil), err == nil)
	if err == nil && resp.ContentLength <= maxResponse+p.cfg.DrainSize {
		err = drain(resp.Body, buf[:], p.cfg.DrainSize)
	}
	if err == nil || errors.Is(err, io.EOF) {
		return kept, nil
	}
	return kept, err
}

// fill reads until buf is full or the reader ends. Unlike io.ReadFull it leaves the error as it is: a clean
// end and a broken one must stay apart.
func fill(from io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = from.Read(buf[n:])
		n += m
	}
	return n, err
}

// drain reads on until the end or for size bytes.
func drain(from io.Reader, scratch []byte, size int64) (err error) {
	for size > 0 && err == nil {
		var n int
		n, err = from.Read(scratch)
		size -= int64(n)
	}
	return err
}
