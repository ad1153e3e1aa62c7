package deliver

import (
	"slices"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// This file needs the inside: two of the ways through the table, a hand-off that ends after the landing and one whose row is another
// worker's, take a race of two workers to be seen from outside.

var (
	begins  = func(c *course) { c.handOff() }
	written = func(c *course) { c.handedOff(true, true, time.Now().Add(time.Minute)) }
	another = func(c *course) { c.handedOff(true, false, time.Now().Add(time.Minute)) }
	failed  = func(c *course) { c.handedOff(false, false, time.Now().Add(time.Minute)) }
	over    = func(c *course) { c.land() }
)

// A flight takes the course of the table, and its record a step beyond its row's.
func TestCourse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		events []func(*course)
		want   flightState
		step   int // of the record
	}{
		{"new", nil, flying, 1},
		{"attempted", []func(*course){over}, landed, 1},
		{"handing off", []func(*course){begins}, handing, 2},
		{"handed off", []func(*course){begins, written}, handed, 2},
		{"handed off and attempted", []func(*course){begins, written, over}, landed, 2},
		{"another's", []func(*course){begins, another}, lost, 2},
		{"another's and attempted", []func(*course){begins, another, over}, landed, 2},
		{"not written, which may be untrue", []func(*course){begins, failed}, flying, 2},
		{"written at the second try", []func(*course){begins, failed, begins, written}, handed, 2},
		{"attempted while handing off", []func(*course){begins, over, written}, landed, 2},
		{"attempted while failing to hand off", []func(*course){begins, over, failed}, landed, 2},
		{"attempted before a hand-off", []func(*course){over, begins}, landed, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := new(course)
			for _, happens := range tt.events {
				happens(c)
			}
			if step, was := c.land(); was != tt.want || step != tt.step {
				t.Errorf("the state is %d and the record's step %d, want %d and %d", was, step, tt.want, tt.step)
			}
		})
	}
}

// A task need not wait once a row is written, whoever's it is; and waits for the record of what landed meanwhile.
func TestCourseFreesItsTask(t *testing.T) {
	t.Parallel()
	var got []bool
	for _, before := range [][]func(*course){{begins}, {begins, over}} {
		for _, how := range []struct{ written, taken bool }{{true, true}, {true, false}, {false, false}} {
			c := new(course)
			for _, happens := range before {
				happens(c)
			}
			got = append(got, c.handedOff(how.written, how.taken, time.Now()))
		}
	}
	if want := []bool{true, true, false, false, false, false}; !slices.Equal(got, want) {
		t.Errorf("the task is free: %v, want %v", got, want)
	}
	for state, want := range map[flightState]bool{flying: true, handing: true, handed: false, landed: false, lost: false} {
		if state.awaited() != want {
			t.Errorf("a task waits for state %d: %v", state, !want)
		}
	}
}

// An attempt begins only if the delivery is surely this worker's until its end: a lease that ends before is not used.
func TestALeaseMustOutlastTheAttempt(t *testing.T) {
	t.Parallel()
	w := &Worker{leasing: leasing{pulse: newPulse()}}
	sub := &subscriptions.Subscription{Timeout: 10 * time.Second}
	for _, tt := range []struct {
		left time.Duration
		want bool
	}{{time.Minute, true}, {12 * time.Second, true}, {10 * time.Second, false}, {-time.Minute, false}} {
		f := new(flight)
		f.course.lease(3, time.Now().Add(tt.left))
		if got := f.mayStart(w, sub); got != tt.want {
			t.Errorf("with %s of the lease left: got %v, want %v", tt.left, got, tt.want)
		}
		if step, was := f.course.land(); step != 4 || was != handed {
			t.Errorf("the record of a lease has step %d in state %d, want 4 in state %d", step, was, handed)
		}
	}
	if f := new(flight); !f.mayStart(w, sub) {
		t.Error("without a lease the task itself keeps the delivery")
	}
	theirs := new(flight)
	begins(&theirs.course)
	another(&theirs.course)
	if theirs.mayStart(w, sub) {
		t.Error("what another worker has may not be sent")
	}
	if f := (&flight{epoch: 1}); f.mayStart(w, sub) {
		t.Error("a delivery that was begun before a pause may not be sent")
	}
}
