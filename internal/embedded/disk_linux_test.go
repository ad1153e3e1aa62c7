package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/internal/embedded"
)

// diskChild is the environment variable that makes this program fill a small disk of its own.
const diskChild = "FANFARE_EMBEDDED_DISK_CHILD"

// A server whose disk was full stores messages again once there is room, over the same connection, and has kept what it
// acknowledged. It runs in a child with a mount namespace, where a disk of 64 MiB is mounted.
func TestNATSComesBackWhenItsDiskHasRoom(t *testing.T) {
	t.Parallel()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), diskChild+"="+t.TempDir())
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		child.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if output, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

func init() { children[diskChild] = fillDisk }

// fillDisk is the child.
func fillDisk(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := fillAndFree(ctx, dir); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func fillAndFree(ctx context.Context, dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		return fmt.Errorf("mount a small disk: %w", err)
	}
	if err := slowAndRefuse(dir); err != nil {
		return err
	}
	n, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir, Listen: "off", SyncAlways: true})
	if err != nil {
		return err
	}
	defer n.Shutdown()
	go func() { _ = n.Supervise(ctx) }()
	nc, err := n.Connect(nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	s, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	if err != nil {
		return err
	}
	disk, err := embedded.NewDisk(dir, 1<<40)
	if err != nil {
		return err
	}
	if err := disk.Room(); err != nil {
		return err
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 32<<20), 0o600); err != nil {
		return err
	}
	message := bytes.Repeat([]byte("x"), 512<<10)
	publish := func() error {
		// A server whose disk is full does not answer.
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := js.Publish(ctx, "s", message)
		return err
	}
	acked := 0
	for ; acked < 1000; acked++ {
		if publish() != nil {
			break
		}
	}
	if acked == 1000 {
		return errors.New("the disk was never full")
	}
	if err := disk.Room(); err == nil || !strings.Contains(err.Error(), "FANFARE_DISK_RESERVE") {
		return fmt.Errorf("room on a full disk: %w", err)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if err := disk.Room(); err != nil {
		return err
	}
	for {
		if err = publish(); err == nil {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no message is stored although there is room: %w", err)
		}
	}
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	if info.State.Msgs <= uint64(acked) {
		return fmt.Errorf("the stream has %d messages, of %d that were acknowledged before the disk was full", info.State.Msgs, acked)
	}
	return nil
}

// slowAndRefuse fills a disk by steps: a sender is admitted at once, then has to wait, then is refused.
func slowAndRefuse(dir string) error {
	const reserve = 2 << 20
	disk, err := embedded.NewDisk(dir, reserve)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "filling")
	over, cancel := context.WithCancel(context.Background())
	cancel() // Whoever waits finds out at once.
	for left, want := range map[int64]string{4 * reserve: "<nil>", reserve + reserve/2: context.Canceled.Error(), reserve / 2: "FANFARE_DISK_RESERVE"} {
		free, err := embedded.FreeSpace(dir)
		if err == nil {
			err = os.WriteFile(file, make([]byte, free-left), 0o600)
		}
		if err != nil {
			return err
		}
		if got := fmt.Sprint(disk.Admit(over)); !strings.Contains(got, want) {
			return fmt.Errorf("with %d bytes left a sender gets %s, want %s", left, got, want)
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}
