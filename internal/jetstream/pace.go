package jetstream

import "time"

// pace chooses between the two ways to publish a group by what the last groups cost.
//
// Under SyncAlways, each message that is published by itself waits for a sync of its own; an atomic batch waits for one,
// but the broker first stages it in files of its own. Measured in process, on 2 cores and ext4, with messages
// of 1 KiB: a batch costs 4 ms where it is staged on disk, 1 ms where it is staged in memory, and 10 us for each message.
// By themselves, messages cost 75 us each when the disk is idle and 300 us when it is not, so that a batch pays from 60
// messages or from 4. Where the broker does not sync, by itself a message costs 5 us, and a batch never pays. Hence no
// constant: the lanes measure.
type pace struct {
	single time.Duration // of a message that is published by itself, among others
	batch  time.Duration // of a batch, beside what its messages cost
	groups int           // published as batches since the last look at single
}

const (
	staged = 10 * time.Microsecond // what a message costs within a batch

	// fewest is the smallest group whose cost tells what a message by itself costs: in smaller ones the way to the
	// broker and back counts for more.
	fewest = 4
	// probed is how many messages of a batch are published by themselves, each time that probeEvery batches went:
	// under load that never ends there would be no other way to see that batches do not pay.
	probed, probeEvery = 8, 64
	// forgotten is the part of a batch's cost that each group without one takes away: one in so many.
	forgotten = 128
)

func newPace() pace { return pace{single: 250 * time.Microsecond, batch: time.Millisecond} }

// together says whether n messages should go as a batch.
func (p *pace) together(n int) bool {
	return time.Duration(n)*(p.single-staged) > p.batch
}

// probe says whether some messages of this batch should go by themselves.
func (p *pace) probe() bool {
	p.groups++
	if p.groups < probeEvery {
		return false
	}
	p.groups = 0
	return true
}

// sentSingly takes note of what n messages by themselves took. Batches seem a little cheaper then, so that one is tried
// again after a while.
func (p *pace) sentSingly(n int, took time.Duration) {
	if n >= fewest {
		p.single = approach(p.single, took/time.Duration(n))
		p.batch -= p.batch / forgotten
	}
}

// sentTogether takes note of what a batch of n messages took.
func (p *pace) sentTogether(n int, took time.Duration) {
	p.batch = approach(p.batch, max(0, took-time.Duration(n)*staged))
}

// approach moves an average by a quarter of the way, but forgets a hiccup: no step more than doubles it.
func approach(average, seen time.Duration) time.Duration {
	return max(time.Microsecond, average+(min(seen, 4*average)-average)/4)
}
