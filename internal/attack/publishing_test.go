package attack_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// upload opens a connection that announces a body and sends it a byte at a time, or not at all.
func (s *scene) upload(framing string, bytesEvery time.Duration) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.on.api, "http://"))
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: attack\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: application/json\r\n%s\r\n\r\n", s.attacker.key, framing)
	tick := time.NewTicker(bytesEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
			if _, err := conn.Write([]byte("[")); err != nil {
				return
			}
		}
	}
}

// tricklingUploads sends large bodies a byte at a time.
func tricklingUploads() attack {
	return attack{
		name: "trickling uploads",
		strike: func(s *scene) {
			s.again(32, time.Millisecond, func() { s.upload("Content-Length: 4128768", 300*time.Millisecond) })
		},
	}
}

// announcedBodies announces large bodies and sends nothing of them.
func announcedBodies() attack {
	return attack{
		name: "announced bodies",
		strike: func(s *scene) {
			s.again(64, time.Millisecond, func() { s.upload("Content-Length: 4194304", time.Hour) })
			s.again(64, time.Millisecond, func() { s.upload("Transfer-Encoding: chunked", time.Hour) })
		},
	}
}

// garbageKeys sends wrong keys from the victim's address. Keys that the process sees for the first time
// must work meanwhile.
func garbageKeys() attack {
	var wrong atomic.Int64
	return attack{
		name: "garbage keys from the victim's address",
		strike: func(s *scene) {
			s.again(4, 5*time.Millisecond, func() {
				// Half of them have the shape of a key.
				garbage := fmt.Sprintf("garbage%d", wrong.Add(1))
				if wrong.Load()%2 == 0 {
					garbage = "ff_" + s.attacker.id + "_" + strings.Repeat("x", 43)
				}
				c := *s.attacker
				c.key = garbage
				if status, answer := c.call(s.ctx, "GET /v1/subscriptions", nil); status != http.StatusUnauthorized && s.ctx.Err() == nil {
					s.unexpected("a wrong key", status, answer)
				}
			})
			s.again(1, 100*time.Millisecond, func() {
				fresh := s.key(s.named("fresh"), "subscriptions:read")
				if status, answer := fresh.call(s.ctx, "GET /v1/subscriptions", nil); status != http.StatusOK && s.ctx.Err() == nil {
					s.unexpected("a fresh key", status, answer)
				}
			})
		},
	}
}

// unknownFields sends objects of thousands of fields that no operation knows.
func unknownFields() attack {
	return attack{
		name: "79 KB of unknown fields",
		strike: func(s *scene) {
			fields := object{}
			for i := range 8000 {
				fields[fmt.Sprintf("k%d", i)] = 1
			}
			body, err := json.Marshal(fields)
			if err != nil {
				panic(err) // It is plain.
			}
			s.again(4, 100*time.Millisecond, func() {
				began := time.Now()
				status, answer := s.attacker.call(s.ctx, "POST /v1/subscriptions", body)
				if took := time.Since(began); s.ctx.Err() == nil && (status/100 != 4 || took > s.patience/2) {
					s.unexpected("unknown fields, after "+took.String(), status, answer)
				}
			})
		},
	}
}

// costlyType declares a type whose schema is a list of many kinds, and returns data that fits none.
func (s *scene) costlyType(name string) []byte {
	s.Helper()
	var kinds []object
	for i := range 20 {
		kinds = append(kinds, object{
			"type": "object", "required": []string{"kind", "value"},
			"properties": object{"kind": object{"const": fmt.Sprintf("kind%d", i)}, "value": object{"type": "string"}},
		})
	}
	schema := object{
		"type":       "object",
		"properties": object{"lines": object{"type": "array", "items": object{"oneOf": kinds}}},
	}
	s.admin.must(s, "POST /v1/event-types?tenant="+s.attacker.tenant, object{"name": name, "schema": schema}, nil)
	return []byte(`{"lines":[` + strings.TrimSuffix(strings.Repeat("1,", 120<<10), ",") + `]}`)
}

// costlySchemaHTTP publishes large events that fail at every branch of a schema.
func costlySchemaHTTP() attack {
	var data []byte
	return attack{
		name:  "240 KB events against a oneOf schema",
		ready: func(s *scene) { data = s.costlyType("costly") },
		strike: func(s *scene) {
			body := bytes.Join([][]byte{[]byte(`{"type":"costly","data":`), data, []byte(`}`)}, nil)
			s.again(8, 50*time.Millisecond, func() {
				status, answer := s.attacker.call(s.ctx, "POST /v1/events", body)
				if s.ctx.Err() == nil && status/100 != 4 && status != http.StatusServiceUnavailable {
					s.unexpected("an event that does not fit", status, answer)
				}
			})
		},
	}
}

// costlySchemaNATS is costlySchemaHTTP over NATS, where fan-out judges. The rate is bounded: how many bytes
// a second the broker stores is not what this attack is about.
func costlySchemaNATS() attack {
	var data []byte
	return attack{
		name:  "240 KB events against a oneOf schema over NATS",
		ready: func(s *scene) { data = s.costlyType("costly") },
		strike: func(s *scene) {
			nc := s.nats()
			s.again(1, time.Second, func() {
				for range 8 {
					_ = nc.Publish("events."+s.attacker.tenant+".costly", data) // Full buffers are the attacker's.
				}
				_ = nc.FlushWithContext(s.ctx)
			})
		},
		holds: func(s *scene) { s.quarantined("schema") },
	}
}

// recursiveSchema publishes small events whose judging would double with each level.
func recursiveSchema() attack {
	data := []byte(strings.Repeat("[", 60) + `"x"` + strings.Repeat("]", 60))
	return attack{
		name: "120 byte events against a recursive anyOf schema",
		ready: func(s *scene) {
			list := func(more object) object {
				more["type"], more["items"] = "array", object{"$ref": "#"}
				return more
			}
			s.admin.must(s, "POST /v1/event-types?tenant="+s.attacker.tenant, object{"name": "recursive", "schema": object{
				"anyOf": []object{{"type": "integer"}, list(object{}), list(object{"maxItems": 9})},
			}}, nil)
		},
		strike: func(s *scene) {
			nc := s.nats()
			s.again(4, 20*time.Millisecond, func() {
				_ = nc.Publish("events."+s.attacker.tenant+".recursive", data) // Full buffers are the attacker's.
				status, answer := s.attacker.call(s.ctx, "POST /v1/events", bytes.Join([][]byte{[]byte(`{"type":"recursive","data":`), data, []byte(`}`)}, nil))
				if s.ctx.Err() == nil && status/100 != 4 && status != http.StatusServiceUnavailable {
					s.unexpected("an event that costs too much", status, answer)
				}
			})
		},
		holds: func(s *scene) { s.quarantined("schema_too_costly") },
	}
}

// quarantineFlood publishes messages that are no events.
func quarantineFlood() attack {
	return attack{
		name: "quarantine flood over NATS",
		ready: func(s *scene) {
			nc := s.nats()
			if err := nc.Publish("events."+s.named("bystander")+".order", []byte("not JSON")); err != nil {
				s.Fatal(err)
			}
		},
		strike: func(s *scene) {
			nc := s.nats()
			s.again(1, 100*time.Millisecond, func() {
				for range s.size(200, 1000) {
					_ = nc.Publish("events."+s.attacker.tenant+".bad", []byte("not JSON")) // Full buffers are the attacker's.
				}
				_ = nc.FlushWithContext(s.ctx)
			})
		},
		holds: func(s *scene) {
			s.quarantined("bad_data")
			s.eventually("another tenant's message is in quarantine", func() bool {
				return len(s.admin.list(s, "/v1/quarantine?tenant="+s.named("bystander")).Data) == 1
			})
		},
	}
}

// largeEventsNATS publishes large events as fast as the connection takes them.
func largeEventsNATS() attack {
	return attack{
		name: "flood of large events over NATS",
		strike: func(s *scene) {
			nc := s.nats()
			data := []byte(`{"text":"` + strings.Repeat("x", 240<<10) + `"}`)
			s.again(1, 50*time.Millisecond, func() {
				for range s.size(20, 100) {
					_ = nc.Publish("events."+s.attacker.tenant+".large", data) // Full buffers are the attacker's.
				}
				_ = nc.FlushWithContext(s.ctx)
			})
		},
	}
}

// largeEventsHTTP publishes requests of large events without end, for a subscription of its own.
func largeEventsHTTP() attack {
	return attack{
		name: "flood of large events over HTTP",
		ready: func(s *scene) {
			s.attacker.subscribe(s, s.receive(71).url+"/fast", "large")
		},
		strike: func(s *scene) {
			events := batch(15, "large", object{"text": strings.Repeat("x", 240<<10)})
			s.again(s.size(2, 8), 10*time.Millisecond, func() {
				status, answer := s.attacker.call(s.ctx, "POST /v1/events", events)
				if s.ctx.Err() == nil && status != http.StatusAccepted && status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests {
					s.unexpected("large events", status, answer)
				}
			})
		},
	}
}

// nats connects as a client of this machine does, without credentials.
func (s *scene) nats() *nats.Conn {
	s.Helper()
	nc, err := nats.Connect(s.on.nats, nats.Timeout(s.patience))
	if err != nil {
		s.Fatalf("connect to NATS: %v", err)
	}
	s.Cleanup(nc.Close)
	return nc
}

// quarantined waits for a message of the attacker in quarantine whose reason begins with this.
func (s *scene) quarantined(reason string) {
	s.Helper()
	s.eventually("the attacker's messages are in quarantine", func() bool {
		for _, m := range s.admin.list(s, "/v1/quarantine?tenant="+s.attacker.tenant).Data {
			if strings.HasPrefix(m.Reason, reason) {
				return true
			}
		}
		return false
	})
}
