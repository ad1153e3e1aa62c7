package attack_test

import (
	"context"
	"crypto/rand"
	"net/http"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// erasedBytes looks through the files of Postgres and of NATS for what an erased tenant left behind.
func erasedBytes() attack {
	var secret string
	return attack{
		name: "an erased tenant's bytes on the disk",
		ready: func(s *scene) {
			secret = rand.Text()
			failing := s.receive(83, func(r *receiver) { r.status = func(*http.Request) int { return http.StatusInternalServerError } })
			s.attacker.subscribe(s, failing.url+"/fast", "kept", object{"headers": object{"X-Secret": secret}})
			s.attacker.subscribe(s, failing.url+"/fast", "kept", object{"retry": object{"max_retries": 0}})
			s.attacker.must(s, "POST /v1/events", batch(5, "kept", object{"text": secret}), nil)
			s.eventually("an event is dead and one waits", func() bool {
				return len(s.attacker.list(s, "/v1/dead-letters").Data) == 5 && len(s.attacker.list(s, "/v1/deliveries?state=pending").Data) == 5
			})
			if len(servertest.FilesWith(s, s.on.dir, secret)) == 0 {
				s.Errorf("nothing is found before it is erased: the search is wrong")
			}
		},
		strike: func(s *scene) { s.admin.must(s, "DELETE /v1/tenants/"+s.attacker.tenant, nil, nil) },
		holds: func(s *scene) {
			s.eventually("the tenant is erased", func() bool {
				status, _ := s.admin.call(context.Background(), "GET /v1/tenants/"+s.attacker.tenant, nil)
				return status == http.StatusNotFound
			})
			if found := servertest.FilesWith(s, s.on.dir, secret); len(found) > 0 {
				s.Errorf("the erased bytes are still in %q", found)
			}
		},
	}
}
