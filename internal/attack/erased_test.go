package attack_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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
			if len(s.on.holding(s, secret)) == 0 {
				s.Errorf("nothing is found before it is erased: the search is wrong")
			}
		},
		strike: func(s *scene) { s.admin.must(s, "DELETE /v1/tenants/"+s.attacker.tenant, nil, nil) },
		holds: func(s *scene) {
			s.eventually("the tenant is erased", func() bool {
				status, _ := s.admin.call(context.Background(), "GET /v1/tenants/"+s.attacker.tenant, nil)
				return status == http.StatusNotFound
			})
			if found := s.on.holding(s, secret); len(found) > 0 {
				s.Errorf("the erased bytes are still in %q", found)
			}
		},
	}
}

// holding returns the files of the data directory that hold a text, as it is or in base64.
func (f *fanfare) holding(s *scene, text string) (found []string) {
	s.Helper()
	forms := [][]byte{[]byte(text)}
	for shift := range 3 { // Of each alignment, the characters that hold nothing of what is around the text.
		encoded := base64.StdEncoding.EncodeToString(append(bytes.Repeat([]byte("_"), shift), text...))
		forms = append(forms, []byte(encoded[4:len(encoded)-4]))
	}
	err := filepath.WalkDir(f.dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Both servers replace files while they work.
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if slices.ContainsFunc(forms, func(form []byte) bool { return bytes.Contains(content, form) }) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		s.Errorf("look through the data directory: %v", err)
	}
	return found
}
