package embedded

import (
	"context"
	"fmt"
	"time"
)

const (
	// diskEvery is how often a full disk is looked at.
	diskEvery = time.Second
	// roomToRestart is how much space must be free again before the server is restarted.
	roomToRestart = 16 << 20
)

// Disk is the volume of the data directory, of which a part is kept free: below that, new events are refused while there is
// still room to finish accepted events. Below twice as much, each send is delayed, more and more.
type Disk struct {
	dir     string
	reserve int64
}

// slowest is the delay of a send just before sends are refused.
const slowest = time.Second

// NewDisk makes the Disk of a directory. Of a small volume at most a twentieth is reserved; 0 reserves nothing.
func NewDisk(dir string, reserve int64) (*Disk, error) {
	_, total, err := volume(dir)
	if err != nil {
		return nil, fmt.Errorf("measure the volume of %s: %w", dir, err)
	}
	return &Disk{dir, min(reserve, total/20)}, nil
}

// Admit is Room for a sender: it waits where room becomes short, and no longer than ctx lasts.
func (d *Disk) Admit(ctx context.Context) error {
	free, err := FreeSpace(d.dir)
	if err != nil || free >= 2*d.reserve {
		return err
	}
	if free < d.reserve {
		return d.Room()
	}
	short := float64(2*d.reserve-free) / float64(d.reserve)
	timer := time.NewTimer(time.Duration(short * float64(slowest)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return d.Room()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Room returns an error that says why, if less than the reserve is free.
func (d *Disk) Room() error {
	free, err := FreeSpace(d.dir)
	if err != nil {
		return err
	}
	if free < d.reserve {
		return fmt.Errorf("the disk of %s has %d MiB left, less than the reserve of %d MiB (FANFARE_DISK_RESERVE)",
			d.dir, free>>20, d.reserve>>20)
	}
	return nil
}

// FreeSpace returns how many bytes an ordinary user may still write on the volume of dir.
func FreeSpace(dir string) (int64, error) {
	free, _, err := volume(dir)
	if err != nil {
		return 0, fmt.Errorf("measure the volume of %s: %w", dir, err)
	}
	return free, nil
}

// Supervise restarts the server after its disk was full, once there is room again, until ctx ends. A stream whose write
// failed takes no message until its server is restarted.
func (n *NATS) Supervise(ctx context.Context) error {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !n.log.full.Load() {
			continue
		}
		if free, err := FreeSpace(n.opts.StoreDir); err != nil || free < roomToRestart {
			continue
		}
		n.log.log.WarnContext(ctx, "restarting NATS: its disk was full and has room again")
		s := n.current()
		s.Shutdown()
		s.WaitForShutdown()
		n.log.full.Store(false)
		if err := n.start(); err != nil {
			n.log.log.ErrorContext(ctx, "cannot restart NATS, trying again", "error", err)
			n.log.full.Store(true)
		}
	}
}
