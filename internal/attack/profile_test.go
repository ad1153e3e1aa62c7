package attack_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var profiles = flag.String("attack.profile", "", "write profiles of each attack to this folder: CPU, heap, and the stacks of all goroutines")

// profile writes profiles of the process while an attack runs. The returned function waits for them.
func (f *fanfare) profile(t *testing.T, name string, try int) (wait func()) {
	if *profiles == "" {
		return func() {}
	}
	base := filepath.Join(*profiles, fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), try))
	var wg sync.WaitGroup
	wg.Go(func() { f.download(t, "/debug/pprof/profile?seconds=4", base+".cpu") })
	wg.Go(func() {
		for i := range 4 {
			time.Sleep(time.Second) // A profile needs no exact moment.
			f.download(t, "/debug/pprof/goroutine?debug=1", fmt.Sprintf("%s.goroutines-%d", base, i))
		}
		f.download(t, "/debug/pprof/trace?seconds=2", base+".trace")
		f.download(t, "/debug/pprof/heap", base+".heap")
		f.download(t, "/metrics", base+".metrics")
	})
	return wg.Wait
}

func (f *fanfare) download(t *testing.T, path, file string) {
	resp, err := http.Get(f.ops + path)
	if err != nil {
		t.Logf("profile: %v", err)
		return
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err == nil {
		err = os.WriteFile(file, content, 0o600)
	}
	if err != nil {
		t.Logf("profile: %v", err)
	}
}
