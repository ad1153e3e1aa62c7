package jetstream

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/fanfarehq/fanfare/internal/crashpoint"
	"github.com/fanfarehq/fanfare/internal/group"
)

const (
	// maxBatch is the most that a broker takes in one atomic batch.
	maxBatch = 1000
	// maxBatchBytes bounds the memory of a commit, here and in the broker. Clients whose output exceeds 64 MiB
	// are cut off.
	maxBatchBytes = 8 << 20
	// maxRejections is how many batches of one commit may be refused because of a duplicate; the rest then goes
	// singly. One duplicate among 1,000 is found within six; a group that was sent before is full of them, and those
	// cost no sync.
	maxRejections = 8

	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"

	batchHeaders = 3
	batchRoom    = 128 // bytes that these headers need
)

// lane publishes into one stream, one group at a time.
type lane struct {
	stream    string
	js        natsjs.JetStream
	max       int
	committer *group.Committer[[]letter]

	// Of one commit at a time:
	atomic     bool // the stream takes atomic batches
	pace       pace
	rejections int
}

func newLane(js natsjs.JetStream, stream natsjs.StreamConfig, cfg PublisherConfig) *lane {
	l := &lane{stream: stream.Name, js: js, max: cfg.MaxBatch, atomic: stream.AllowAtomicPublish, pace: newPace()}
	l.committer = group.New(group.Limits{Count: cfg.MaxBatch, Bytes: maxBatchBytes, Timeout: cfg.Timeout}, sizeOf, l.commit)
	return l
}

func sizeOf(letters []letter) (n int) {
	for i := range letters {
		n += letters[i].size
	}
	return n
}

// commit publishes the letters of a group; what becomes of each is noted on it.
func (l *lane) commit(ctx context.Context, parcels [][]letter) error {
	if err := connected(ctx, l.js.Conn()); err != nil {
		return err
	}
	l.rejections = 0
	next := make([]*letter, 0, len(parcels))
	bytes := 0
	for _, parcel := range parcels {
		for i := range parcel {
			if len(next) == l.max || len(next) > 0 && bytes+parcel[i].size > maxBatchBytes {
				l.publish(ctx, next)
				next, bytes = next[:0], 0
			}
			next, bytes = append(next, &parcel[i]), bytes+parcel[i].size
		}
	}
	l.publish(ctx, next)
	return nil
}

// connected waits for the connection, if it is lost, until ctx ends. nats.go would keep messages published meanwhile, but
// then it stores what its sender was told failed, and takes the room of acks.
func connected(ctx context.Context, nc *nats.Conn) error {
	if nc.IsConnected() {
		return nil
	}
	status := nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(status)
	for !nc.IsConnected() {
		if nc.IsClosed() {
			return Classify(nats.ErrConnectionClosed)
		}
		select {
		case <-status:
		case <-ctx.Done():
			return Classify(nats.ErrConnectionReconnecting)
		}
	}
	return nil
}

func (l *lane) publish(ctx context.Context, letters []*letter) {
	if ctx.Err() != nil { // Those before took all the time.
		for _, x := range letters {
			x.err = Classify(nats.ErrTimeout)
		}
		return
	}
	if !l.atomic || !l.pace.together(len(letters)) {
		l.singly(ctx, letters)
		return
	}
	if len(letters) > probed && l.pace.probe() {
		l.singly(ctx, letters[:probed])
		letters = letters[probed:]
	}
	l.together(ctx, letters)
}

// singly publishes letters one after the other, without waiting for each other's acks.
func (l *lane) singly(ctx context.Context, letters []*letter) {
	began := time.Now()
	acks := make([]natsjs.PubAckFuture, len(letters))
	for i, x := range letters {
		acks[i], x.err = l.js.PublishMsgAsync(x.msg)
	}
	stored := 0
	for i, x := range letters {
		if x.err == nil {
			x.ack, x.err = wait(ctx, acks[i])
		}
		if x.err != nil {
			x.err = Classify(x.err)
		} else if !x.ack.Duplicate {
			stored++
		}
	}
	if stored == len(letters) { // What is not stored costs no sync.
		l.pace.sentSingly(stored, time.Since(began))
	}
}

// together publishes letters as an atomic batch: the broker stores all or none. If one is a duplicate it stores none, so
// the halves are tried, until each duplicate is alone and gets the ack of the first.
func (l *lane) together(ctx context.Context, letters []*letter) {
	if len(letters) <= 1 || l.rejections >= maxRejections {
		l.singly(ctx, letters)
		return
	}
	began := time.Now()
	last, err := l.batch(ctx, letters)
	if err == nil {
		l.pace.sentTogether(len(letters), time.Since(began))
		for i, x := range letters {
			x.ack = Ack{Sequence: last.Sequence - uint64(len(letters)-1-i)}
		}
		return
	}
	for _, x := range letters {
		delete(x.msg.Header, headerBatchID)
		delete(x.msg.Header, headerBatchSequence)
		delete(x.msg.Header, headerBatchCommit)
	}
	switch err = Classify(err); {
	case isCode(err, codeDuplicateInBatch):
		l.rejections++
		half := len(letters) / 2
		l.together(ctx, letters[:half])
		l.together(ctx, letters[half:])
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrFull):
		for _, x := range letters {
			x.err = err
		}
	default:
		// The broker refused the batch as such, for instance because of one message that is too large, or since it restarted
		// between the first message and the last. Nothing of it is stored.
		l.atomic = l.atomic && !isCode(err, codeAtomicDisabled)
		l.singly(ctx, letters)
	}
}

// batch publishes an atomic batch and returns the ack of its last message.
func (l *lane) batch(ctx context.Context, letters []*letter) (Ack, error) {
	id := []string{nuid.Next()}
	numbers := make([]string, len(letters))
	for i, x := range letters {
		numbers[i] = strconv.Itoa(i + 1)
		x.msg.Header[headerBatchID] = id
		x.msg.Header[headerBatchSequence] = numbers[i : i+1 : i+1]
	}
	last := letters[len(letters)-1].msg
	last.Header[headerBatchCommit] = []string{"1"}
	for _, x := range letters[:len(letters)-1] {
		if err := crashpoint.Reach(crashpoint.PublishBatch); err != nil {
			return Ack{}, Classify(nats.ErrTimeout)
		}
		if err := l.js.Conn().PublishMsg(x.msg); err != nil {
			return Ack{}, err
		}
	}
	ack, err := l.js.PublishMsgAsync(last)
	if err != nil {
		return Ack{}, err
	}
	return wait(ctx, ack)
}

// wait returns the broker's answer. If the connection breaks first, it fails at once.
func wait(ctx context.Context, future natsjs.PubAckFuture) (Ack, error) {
	select {
	case ack := <-future.Ok():
		return Ack{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
	case err := <-future.Err():
		return Ack{}, err
	case <-ctx.Done():
		return Ack{}, nats.ErrTimeout
	}
}
