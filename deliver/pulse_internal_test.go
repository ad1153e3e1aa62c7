package deliver

import (
	"testing"
	"testing/synctest"
	"time"
)

// This file needs the inside: a process is stopped with a signal, which would stop its test as well; here a clock that can be moved
// stands for it.

func TestThePulseTellsOfAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPulse()
		epoch := p.now()
		for range 100 {
			time.Sleep(pulseEvery)
			p.beat()
		}
		if !p.steady(epoch) {
			t.Error("a steady process has lost its tasks")
		}
		time.Sleep(pulseLost + time.Second) // as in SIGSTOP: no beat
		if p.steady(epoch) {
			t.Error("right after the pause nothing may be sent, though no beat has told yet")
		}
		p.beat()
		if p.steady(epoch) {
			t.Error("what was begun before the pause is steady after it")
		}
		if !p.steady(p.now()) {
			t.Error("what begins after the pause is not steady")
		}
	})
}
