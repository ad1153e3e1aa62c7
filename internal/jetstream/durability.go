package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
)

const (
	// replicasEnough is the number of replicas of which one may lose what it has not synced.
	replicasEnough = 3
	// settingsSubject is where servers tell their JetStream settings, to the system account and to whom it is exported.
	settingsSubject = "$SYS.REQ.SERVER.PING.JSZ"
	settingsTimeout = 2 * time.Second
)

// Durability says whether what these inboxes accepted survives a power cut: each stream must be in the files of three
// servers, or of one that syncs every write; one that is Unsynced need not be synced. Where it is not so, or cannot be
// known, detail says why. A missing stream does not survive.
func Durability(ctx context.Context, nc *nats.Conn, js natsjs.JetStream, inboxes ...Inbox) (synced bool, detail string, err error) {
	var weak, servers []string
	missing := map[string]Inbox{}
	for _, b := range inboxes {
		missing[b.Stream.Name] = b
	}
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		b, ours := missing[info.Config.Name]
		delete(missing, info.Config.Name)
		if !ours || info.Config.Replicas >= replicasEnough {
			continue
		}
		if why := b.flaw(info.Config); why != "" {
			weak = append(weak, "stream "+info.Config.Name+" "+why)
			continue
		}
		name := nc.ConnectedServerName()
		if info.Cluster != nil && info.Cluster.Leader != "" {
			name = info.Cluster.Leader
		}
		servers = append(servers, name)
	}
	if err := list.Err(); err != nil {
		return false, "", fmt.Errorf("list streams: %w", Classify(err))
	}
	for name := range missing {
		weak = append(weak, "stream "+name+" is missing")
	}
	slices.Sort(weak)
	slices.Sort(servers)
	for _, name := range slices.Compact(servers) {
		why, err := flawOfServer(ctx, nc, name)
		if err != nil {
			return false, "", err
		}
		if why != "" {
			weak = append(weak, "server "+name+" "+why)
		}
	}
	if len(weak) > 0 {
		return false, strings.Join(weak, "; "), nil
	}
	return true, "every write is replicated or synced", nil
}

// flaw says why a stream that is not replicated would lose messages, whatever its server does.
func (b Inbox) flaw(cfg natsjs.StreamConfig) string {
	switch {
	case cfg.Storage == natsjs.MemoryStorage:
		return "is in memory"
	case cfg.PersistMode == natsjs.AsyncPersistMode && !b.Unsynced:
		return "is written after it acknowledged (persist_mode async)"
	default:
		return ""
	}
}

// flawOfServer says why a server would lose messages of streams that are not replicated.
func flawOfServer(ctx context.Context, nc *nats.Conn, name string) (string, error) {
	settings, err := settingsOf(ctx, nc, name)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		// Nothing else that an ordinary account may ask tells it.
		return "may or may not sync every write: it does not tell this account; set sync_always there and export " +
			settingsSubject + " to it, or replicate the streams", nil
	case err != nil:
		return "", fmt.Errorf("ask server %s for its settings: %w", name, Classify(err))
	case !settings.SyncAlways:
		return "does not sync every write; set sync_always there, or replicate the streams", nil
	default:
		return "", nil
	}
}

// settingsOf returns the JetStream settings of a server. Of one in this process they are known.
func settingsOf(ctx context.Context, nc *nats.Conn, name string) (*server.JetStreamConfig, error) {
	type embedded interface {
		JetStreamConfig() *server.JetStreamConfig
	}
	if own, ok := nc.Opts.InProcessServer.(embedded); ok {
		if settings := own.JetStreamConfig(); settings != nil {
			return settings, nil
		}
		return nil, nats.ErrNoResponders
	}
	ask, err := json.Marshal(server.EventFilterOptions{Name: name, ExactMatch: true})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, settingsTimeout)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, settingsSubject, ask)
	if err != nil {
		return nil, err
	}
	var reply struct {
		Data server.JSInfo `json:"data"`
	}
	if err := json.Unmarshal(m.Data, &reply); err != nil {
		return nil, err
	}
	return &reply.Data.Config, nil
}
