package deliver

import (
	"errors"
	"fmt"
	"time"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Config tunes a worker and the streams of this stage. Its zero fields mean the defaults.
type Config struct {
	// InFlight is how many requests one worker has in flight at most.
	InFlight int `envconfig:"DELIVER_IN_FLIGHT" default:"1024" desc:"requests that one worker has in flight at most"`
	// Messages is how many messages of tasks one worker holds at most; each has up to 512 KiB.
	Messages int `envconfig:"DELIVER_MESSAGES" default:"1024" desc:"messages of tasks that one worker holds at most"`
	// HandOff is how long a delivery may take before it becomes a row of its own, so that its task may go.
	HandOff time.Duration `envconfig:"DELIVER_HAND_OFF" default:"1s" desc:"a delivery that takes longer no longer holds its task back"`
	// Lease is how long a worker that died keeps others from its slow or retried deliveries; one that was killed does so until
	// the others learn of it.
	Lease time.Duration `envconfig:"DELIVER_LEASE" default:"60s" desc:"how long the retries of a worker whose machine was lost wait for another worker; those of a killed process wait some 10s; at least 50s"`
	// DrainTimeout is how long attempts in flight may take to end after the worker was told to stop.
	DrainTimeout time.Duration `envconfig:"DELIVER_DRAIN_TIMEOUT" default:"25s" desc:"how long deliveries in flight may take after SIGTERM"`
	// TasksMaxBytes, BacklogMaxBytes and AttemptsMaxBytes bound the streams. A full TASKS stops fan-out, a full ATTEMPTS stops
	// workers. Of BACKLOG a tenant may have as much as is free besides.
	TasksMaxBytes    int64 `envconfig:"TASKS_MAX_BYTES" default:"1073741824" desc:"bytes that the TASKS stream holds at most"`
	BacklogMaxBytes  int64 `envconfig:"BACKLOG_MAX_BYTES" default:"1073741824" desc:"bytes that the BACKLOG stream holds at most; one tenant has half of it at most, and then its further events wait"`
	AttemptsMaxBytes int64 `envconfig:"ATTEMPTS_MAX_BYTES" default:"1073741824" desc:"bytes that the ATTEMPTS stream holds at most"`
	// AttemptsKeep is how long outcomes stay in their stream after they were recorded.
	AttemptsKeep time.Duration `envconfig:"ATTEMPTS_KEEP" default:"10m" desc:"how long recorded outcomes stay in the ATTEMPTS stream"`
	// BreakerAfter failures in a row open a subscription's breaker.
	BreakerAfter int `envconfig:"DELIVER_BREAKER_AFTER" default:"10" desc:"failures in a row after which an endpoint gets one request at a time, to see whether it is back; a negative value: never"`
	// DisableAfter is how long a subscription may go without a success before it is disabled, if it failed at least
	// DisableFailures times. Subscriptions of dialects never are.
	DisableAfter    time.Duration `envconfig:"DELIVER_DISABLE_AFTER" default:"120h" desc:"a subscription that only failed for so long is disabled; a negative value: never"`
	DisableFailures int           `envconfig:"DELIVER_DISABLE_FAILURES" default:"50" desc:"and no sooner than after so many failed attempts"`
	// FailingAfter and FailingAttempts are when the tenant of a subscription is told that it fails: whichever comes first.
	FailingAfter    time.Duration `envconfig:"FAILING_AFTER" default:"10m" desc:"fanfare.subscription.failing is published once a subscription has failed for so long without a success"`
	FailingAttempts int           `envconfig:"FAILING_ATTEMPTS" default:"20" desc:"or after so many failed attempts without a success"`
	// OperatorTenant receives the notices of all tenants; empty: none does.
	OperatorTenant string `envconfig:"OPERATOR_TENANT" desc:"tenant whose subscriptions receive the notices (fanfare.*) of all tenants (empty: none)"`
	// EventsMaxAge is how long the stream of events keeps an event; a delivery that waits longer keeps a copy of its own.
	EventsMaxAge time.Duration `ignored:"true"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		InFlight: 1024, Messages: 1024, HandOff: time.Second, Lease: time.Minute, DrainTimeout: 25 * time.Second,
		TasksMaxBytes: 1 << 30, BacklogMaxBytes: 1 << 30, AttemptsMaxBytes: 1 << 30, AttemptsKeep: 10 * time.Minute, EventsMaxAge: 7 * 24 * time.Hour,
		BreakerAfter: 10, DisableAfter: 5 * 24 * time.Hour, DisableFailures: 50,
		FailingAfter: 10 * time.Minute, FailingAttempts: 20,
	}
}

// or sets zero fields to the defaults.
func (c Config) or(d Config) Config {
	set(&c.InFlight, d.InFlight)
	set(&c.Messages, d.Messages)
	set(&c.HandOff, d.HandOff)
	set(&c.Lease, d.Lease)
	set(&c.DrainTimeout, d.DrainTimeout)
	set(&c.TasksMaxBytes, d.TasksMaxBytes)
	set(&c.BacklogMaxBytes, d.BacklogMaxBytes)
	set(&c.AttemptsMaxBytes, d.AttemptsMaxBytes)
	set(&c.AttemptsKeep, d.AttemptsKeep)
	set(&c.EventsMaxAge, d.EventsMaxAge)
	set(&c.BreakerAfter, d.BreakerAfter)
	set(&c.DisableAfter, d.DisableAfter)
	set(&c.DisableFailures, d.DisableFailures)
	set(&c.FailingAfter, d.FailingAfter)
	set(&c.FailingAttempts, d.FailingAttempts)
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate refuses what cannot work.
func (c Config) Validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	least := 2*patience + subscriptions.MaxTimeout
	bad(c.InFlight < 1, "FANFARE_DELIVER_IN_FLIGHT must be 1 or more")
	bad(c.Messages < 1, "FANFARE_DELIVER_MESSAGES must be 1 or more")
	bad(c.HandOff < 10*time.Millisecond, "FANFARE_DELIVER_HAND_OFF must be 10ms or more")
	bad(c.Lease < least, "FANFARE_DELIVER_LEASE must be %s or more, so that it outlasts every attempt", least)
	bad(c.DrainTimeout < 0, "FANFARE_DELIVER_DRAIN_TIMEOUT must not be negative")
	bad(c.TasksMaxBytes < 16<<20, "FANFARE_TASKS_MAX_BYTES must be 16 MiB or more")
	bad(c.BacklogMaxBytes < 16<<20, "FANFARE_BACKLOG_MAX_BYTES must be 16 MiB or more")
	bad(c.AttemptsMaxBytes < 16<<20, "FANFARE_ATTEMPTS_MAX_BYTES must be 16 MiB or more")
	bad(c.DisableAfter > 0 && c.DisableAfter < time.Hour, "FANFARE_DELIVER_DISABLE_AFTER must be 1h or more, or negative")
	bad(c.DisableFailures < 1, "FANFARE_DELIVER_DISABLE_FAILURES must be 1 or more")
	bad(c.FailingAfter < time.Second, "FANFARE_FAILING_AFTER must be 1s or more")
	bad(c.FailingAttempts < 1, "FANFARE_FAILING_ATTEMPTS must be 1 or more")
	bad(c.OperatorTenant != "" && event.CheckTenant(c.OperatorTenant) != nil, "FANFARE_OPERATOR_TENANT must be the name of a tenant")
	bad(c.AttemptsKeep < 0, "FANFARE_ATTEMPTS_KEEP must not be negative")
	return errors.Join(errs...)
}

// patience is how long a delivery waits for a slot of its subscription before it is put off.
const patience = 10 * time.Second

// targetsPerSlot is how many deliveries a worker takes on for each slot: enough that slots never idle, few enough that
// their goroutines take little memory.
const targetsPerSlot = 4

func (c Config) maxTargets() int { return max(targetsPerSlot*c.InFlight, 2*maxMessageTargets) }
