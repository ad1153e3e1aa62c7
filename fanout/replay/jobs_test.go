package replay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// jobView is a job as the API shows it.
type jobView struct {
	ID            uuid.UUID
	Kind, State   string
	Reason        *string
	Matched, Done int
	Tenant        *string
	Expect        *int
	Filter        struct {
		Tenant        string
		Reason, State []string
		Since, Until  time.Time
	}
}

// fated writes n deliveries of events of the last hour, each with a reason and a state.
func (h *replaying) fated(sub *subscriptions.Subscription, prefix string, n int, state, reason string) {
	h.T.Helper()
	into := `INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, created_at, status,
		state, ended_at, started_at, duration_us, error)`
	more := `, $4, now(), now(), 1, ''`
	if state == "pending" {
		into = `INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, created_at, status,
			step, test, held, due_at, claim_at)`
		more = `, 1, false, $4::text = '', now() + interval '1 hour', now() + interval '1 hour'`
	}
	rows, err := h.DB.QueryContext(h.T.Context(), `
SELECT i, date_trunc('milliseconds', now() - interval '1 hour' + i * interval '1 second') FROM generate_series(1, $1::int) AS i`, n)
	if err != nil {
		h.T.Fatal(err)
	}
	times := map[int]time.Time{}
	for rows.Next() {
		var i int
		var at time.Time
		if err := rows.Scan(&i, &at); err != nil {
			h.T.Fatal(err)
		}
		times[i] = at
	}
	if err := rows.Err(); err != nil {
		h.T.Fatal(err)
	}
	for i, at := range times {
		id := fmt.Sprint(prefix, i)
		uid := event.UID(sub.Tenant, id, at)
		if _, err := h.DB.ExecContext(h.T.Context(), into+` SELECT $1, $2, $6, $3, 'order.created', $7, $8, 0, $5, 1, $9::timestamptz, 500`+more,
			outcome.FirstDelivery(uid, sub.ID), sub.Tenant, id, state, reason, uid, i, sub.ID, at); err != nil {
			h.T.Fatal(err)
		}
	}
}

// job asks for a job over the last two hours.
func (h *replaying) job(who, act string, filter, body map[string]any, want int) (j jobView) {
	h.T.Helper()
	all := map[string]any{"since": time.Now().Add(-2 * time.Hour), "until": time.Now().Add(time.Hour)}
	for name, value := range filter {
		all[name] = value
	}
	request := map[string]any{"filter": all}
	for name, value := range body {
		request[name] = value
	}
	h.desk.Call(who, "POST", "/v1/deliveries/"+act, request, want, &j)
	return j
}

// over waits for the end of a job.
func (h *replaying) over(j jobView) (v jobView) {
	h.T.Helper()
	h.Eventually(fmt.Sprintf("job %s to end", j.ID), func() bool {
		h.desk.Call("admin", "GET", "/v1/jobs/"+j.ID.String(), nil, 200, &v)
		return v.State == "done" || v.State == "cancelled"
	})
	return v
}

// Jobs retry and cancel what their filter says, each once, and only if they find as many as they were told to expect.
func TestJobsRetryAndCancelByFilter(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.replayer()
	sub, foreign := h.Subscribe("acme", "order.*"), h.Subscribe("globex", "order.*")
	h.fated(sub, "tls", 30, "dead", "tls")
	h.fated(sub, "five", 20, "dead", "http_5xx")
	h.fated(sub, "wait", 25, "pending", "http_5xx")
	h.fated(foreign, "theirs", 10, "dead", "tls")
	filter := map[string]any{"reason": []string{"tls"}}
	dry := h.over(h.job("acme", "retry", filter, map[string]any{"dry_run": true, "rate": 1000}, 202))
	if dry.State != "done" || dry.Matched != 30 || dry.Done != 0 || dry.Kind != "retry" {
		t.Errorf("the dry run is %+v", dry)
	}
	var problem struct{ Detail string }
	h.desk.Call("acme", "POST", "/v1/jobs/"+dry.ID.String()+"/pause", nil, 409, &problem)
	if want := "the job has ended"; problem.Detail != want {
		t.Errorf("a job that has ended is not paused: %q, want %q", problem.Detail, want)
	}
	for _, expect := range []int{20, 34} {
		v := h.over(h.job("acme", "retry", filter, map[string]any{"expect": expect, "rate": 1000}, 202))
		if v.State != "cancelled" || v.Reason == nil || *v.Reason != "unexpected_count" || v.Done != 0 {
			t.Errorf("with expect %d: %+v", expect, v)
		}
	}
	if n := h.count(`SELECT count(*) FROM deferrals WHERE generation > 0`); n != 0 {
		t.Errorf("%d deliveries were made by what must make none", n)
	}
	if v := h.over(h.job("acme", "retry", filter, map[string]any{"expect": 32, "rate": 10000}, 202)); v.State != "done" || v.Matched != 30 || v.Done != 30 || v.Reason != nil {
		t.Errorf("the retry is %+v", v)
	}
	if n := h.count(`SELECT count(*) FROM deferrals WHERE generation = 1 AND reason = 'busy' AND tenant = 'acme'`); n != 30 {
		t.Errorf("%d deliveries were retried, want 30", n)
	}
	// A delivery that waits already is not made once more.
	if v := h.over(h.job("acme", "retry", filter, map[string]any{"rate": 10000}, 202)); v.Matched != 0 || v.Done != 0 {
		t.Errorf("the second retry is %+v", v)
	}
	// Pending ones are hurried, or cancelled.
	wait := map[string]any{"state": []string{"pending"}, "http_status": []string{"5xx"}, "reason": []string{"http_5xx"}}
	if v := h.over(h.job("acme", "retry", wait, map[string]any{"rate": 10000}, 202)); v.Done != 25 {
		t.Errorf("hurrying is %+v", v)
	}
	if n := h.count(`SELECT count(*) FROM deferrals WHERE generation = 0 AND due_at <= now()`); n != 25 {
		t.Errorf("%d deliveries are due, want 25", n)
	}
	if v := h.over(h.job("acme", "cancel", map[string]any{"reason": []string{"http_5xx"}}, map[string]any{"rate": 10000}, 202)); v.Done != 25 || v.Kind != "cancel" {
		t.Errorf("cancelling is %+v", v)
	}
	if n := h.count(`SELECT count(*) FROM deliveries WHERE state = 'cancelled' AND status = 500`); n != 25 {
		t.Errorf("%d deliveries are cancelled, want 25", n)
	}
	// Over all tenants, for an admin.
	if v := h.over(h.job("admin", "retry", map[string]any{"state": []string{"dead", "cancelled"}}, map[string]any{"dry_run": true}, 202)); v.Matched != 20+25+10 {
		t.Errorf("over all tenants: %+v", v)
	}
	h.job("acme", "cancel", map[string]any{"state": []string{"dead"}}, nil, 422)
	h.job("acme", "retry", map[string]any{"subscription": foreign.ID}, nil, 422)
	h.job("acme", "retry", map[string]any{"tenant": "globex"}, nil, 403)
	h.job("acme", "retry", map[string]any{"until": time.Now().Add(-3 * time.Hour)}, nil, 422)
	h.desk.Call("acme", "POST", "/v1/deliveries/retry", map[string]any{"filter": map[string]any{}}, 422, nil)
	var list struct{ Data []jobView }
	h.desk.Call("acme", "GET", "/v1/jobs", nil, 200, &list)
	newest := list.Data[0] // the cancel by reason
	if f := newest.Filter; newest.Tenant == nil || *newest.Tenant != "acme" || f.Tenant != "acme" || fmt.Sprint(f.Reason, f.State) != "[http_5xx] [pending]" ||
		f.Since.IsZero() || f.Until.Before(f.Since) || newest.Expect != nil {
		t.Errorf("the list shows %+v", newest)
	}
	if e := list.Data[3].Expect; e == nil || *e != 32 {
		t.Errorf("the list shows %+v, want its expect", list.Data[3])
	}
	if len(list.Data) != 7 {
		t.Errorf("%d jobs are listed, want 7", len(list.Data))
	}
	h.desk.Call("globex", "GET", "/v1/jobs/"+list.Data[0].ID.String(), nil, 404, nil)
	h.desk.Call("acme", "GET", "/v1/replays/"+list.Data[0].ID.String(), nil, 404, nil)
}

// The dead letters of a paused replay are open until it goes on, and those of a cancelled one stay so. A job retries a dead letter
// whose retry was cancelled, once.
func TestAStoppedReplayReopensItsDeadLetters(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.replayerAlone()
	sub := h.Subscribe("acme", "order.*")
	h.fated(sub, "d", 12, "dead", "http_5xx")
	open := func(when string, want int) {
		t.Helper()
		if n := h.count(`SELECT count(*) FROM deliveries WHERE state = 'dead' AND superseded_by IS NULL`); n != want {
			t.Errorf("%s %d dead letters are open, want %d", when, n, want)
		}
	}
	made := func(v replayView) bool { return h.count(`SELECT count(*) FROM deferrals`) == 12 }
	var v replayView
	h.desk.Call("acme", "POST", "/v1/dead-letters/replay", map[string]any{"rate": 1000}, 202, &v)
	// Nothing takes what it made, so it is kept from ending.
	running := func() {
		t.Helper()
		if _, err := h.DB.ExecContext(t.Context(), `UPDATE replays SET state = 'running', ended_at = NULL, next_at = now() + interval '1 hour' WHERE id = $1`, v.ID); err != nil {
			t.Fatal(err)
		}
	}
	h.until(v.ID, "written", made)
	open("while the replay is under way", 0)
	running()
	h.desk.Call("acme", "POST", "/v1/replays/"+v.ID.String()+"/pause", nil, 202, nil)
	open("while it is paused", 12)
	h.desk.Call("acme", "POST", "/v1/replays/"+v.ID.String()+"/resume", nil, 202, nil)
	h.until(v.ID, "resumed", made)
	open("after its resumption", 0)
	running()
	h.desk.Call("acme", "POST", "/v1/replays/"+v.ID.String()+"/cancel", nil, 202, nil)
	open("after it was cancelled", 12)

	retry := map[string]any{"state": []string{"dead", "cancelled"}}
	h.over(h.job("acme", "retry", retry, map[string]any{"rate": 10000}, 202))
	open("after a job retried them", 0)
	h.over(h.job("acme", "cancel", nil, map[string]any{"rate": 10000}, 202))
	open("after a job cancelled the retries", 12)
	if n := h.over(h.job("acme", "retry", retry, map[string]any{"rate": 10000}, 202)).Done; n != 12 {
		t.Errorf("%d were retried, want each delivery once", n)
	}
}

// What a replay made ahead is taken back when it is paused, and made again once when it is resumed; of a cancelled one nothing is
// left. What a worker gives back of it is not claimed.
func TestAStoppedReplayBeginsNothingMore(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.past(60)
	sub := h.Subscribe("acme", "order.*")
	h.replayerAlone()
	p := h.start(sub, map[string]any{"only": "all", "rate": 20})
	written := func(replayView) bool { return h.count(`SELECT count(*) FROM deferrals`) >= 20 }
	h.until(p.ID, "to have written some", written)
	// A worker has one in hand.
	if _, err := h.DB.ExecContext(t.Context(), `UPDATE deferrals SET worker = 'w', claim_at = now() + interval '1 hour'
		WHERE id = (SELECT id FROM deferrals ORDER BY id LIMIT 1)`); err != nil {
		t.Fatal(err)
	}
	var v replayView
	h.desk.Call("acme", "POST", "/v1/replays/"+p.ID.String()+"/pause", nil, 202, &v)
	if n := h.count(`SELECT count(*) FROM deferrals`); v.State != "paused" || v.Sent != 1 || n != 1 {
		t.Errorf("after the pause %d deliveries are left and the replay is %+v; want the one in hand", n, v)
	}
	// The worker gives it back: no worker claims it, and the replay takes it back as well.
	if _, err := h.DB.ExecContext(t.Context(), `UPDATE deferrals SET worker = '', claim_at = now(), due_at = now()`); err != nil {
		t.Fatal(err)
	}
	got, _, err := ledger.New(h.DB).Claim(t.Context(), 100, ledger.DueSpan{Back: time.Hour, Ahead: time.Hour}, ledger.Lease{Worker: "w", Length: time.Minute})
	if err != nil || len(got) != 0 {
		t.Errorf("%d deliveries of a paused replay were claimed: %v", len(got), err)
	}
	h.Eventually("what was given back to be recalled", func() bool { return h.count(`SELECT count(*) FROM deferrals`) == 0 })
	h.desk.Call("acme", "POST", "/v1/replays/"+p.ID.String()+"/resume", nil, 202, nil)
	stop := h.worker()
	if v := h.done(p.ID); v.Sent != 60 {
		t.Errorf("after the resumption the replay is %+v, want 60 sent", v)
	}
	if n := h.count(`SELECT count(DISTINCT event_uid) FROM deferrals WHERE generation = 1`); n != 60 || h.count(`SELECT count(*) FROM deferrals`) != 60 {
		t.Errorf("%d events are sent, want each of 60 once", n)
	}
	if _, err := h.DB.ExecContext(t.Context(), `DELETE FROM deferrals`); err != nil {
		t.Fatal(err)
	}
	stop()
	p = h.start(sub, map[string]any{"only": "all", "rate": 20})
	h.until(p.ID, "to have written some", written)
	h.desk.Call("acme", "POST", "/v1/replays/"+p.ID.String()+"/cancel", nil, 202, &v)
	if n := h.count(`SELECT count(*) FROM deferrals`) + h.count(`SELECT count(*) FROM recalled`); n != 0 || v.State != "cancelled" || v.Sent != 0 {
		t.Errorf("after the cancel %d deliveries are left, and the replay is %+v", n, v)
	}
}
