package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/fanfarehq/fanfare/internal/running"
)

// pipelineChild is `fanfare all` as a user starts it, in a data directory of its own and on free ports.
type pipelineChild struct {
	*child
	at running.Process
}

// startPipeline starts it and returns when it is ready. Loopback receivers are allowed.
func startPipeline(ctx context.Context, dir string, env ...string) (*pipelineChild, error) {
	c, err := startChild(ctx, append([]string{
		"FANFARE_DATA_DIR=" + dir,
		"FANFARE_ADDR=127.0.0.1:0",
		"FANFARE_OPS_ADDR=127.0.0.1:0",
		"FANFARE_SHUTDOWN_DELAY=0s",
		"FANFARE_NATS_LISTEN=127.0.0.1:0",
		"FANFARE_ALLOW_PRIVATE_CIDRS=127.0.0.0/8",
		"FANFARE_LOG_LEVEL=warn",
	}, env...), "all")
	if err != nil {
		return nil, err
	}
	c.watch()
	p := &pipelineChild{child: c}
	for {
		if p.at, err = running.Read(dir); err == nil {
			return p, nil
		}
		select {
		case <-c.done:
			return nil, c.failure()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// pipelineCPU is the CPU time that the pipeline has used.
type pipelineCPU struct {
	fanfare, postgres time.Duration
}

func (p *pipelineChild) cpu() (use pipelineCPU, err error) {
	if use.fanfare, err = cpuOf(p.at.PID); err != nil {
		return use, err
	}
	use.postgres, err = cpuOfTree(p.at.PostgresPID)
	return use, err
}

// settled waits until the pipeline is idle again, at most 10 s, and returns what it has used.
func (p *pipelineChild) settled(ctx context.Context) (pipelineCPU, error) {
	const step, idle = 250 * time.Millisecond, 30 * time.Millisecond
	last, err := p.cpu()
	for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline) && pause(ctx, step); {
		now, err := p.cpu()
		if err != nil {
			return now, err
		}
		if now.fanfare+now.postgres-last.fanfare-last.postgres <= idle {
			return now, nil
		}
		last = now
	}
	return last, err
}

// tempDir makes a data directory for this run alone.
func tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "fanfare-")
	if err != nil {
		return "", fmt.Errorf("make a data directory: %w", err)
	}
	return dir, nil
}

// download gets a URL into a file.
func download(ctx context.Context, url, name string) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, resp.Body); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
