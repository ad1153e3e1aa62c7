package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU time in /proc on every Linux: 1/100 s.
const clockTick = 10 * time.Millisecond

// procStat is one line of /proc/<pid>/stat.
type procStat struct {
	parent int
	cpu    time.Duration // its own, user and system
	ended  time.Duration // of its children that have ended
}

// cpuOf is the CPU time of a process without its children.
func cpuOf(pid int) (time.Duration, error) {
	stats, err := allStats()
	if err != nil {
		return 0, err
	}
	s, ok := stats[pid]
	if !ok {
		return 0, fmt.Errorf("process %d is gone", pid)
	}
	return s.cpu, nil
}

// cpuOfTree is the CPU time of a process and of all its descendants, ended ones included.
func cpuOfTree(pid int) (time.Duration, error) {
	stats, err := allStats()
	if err != nil {
		return 0, err
	}
	if _, ok := stats[pid]; !ok {
		return 0, fmt.Errorf("process %d is gone", pid)
	}
	var total time.Duration
	for id, s := range stats {
		for up := id; up > 1; up = stats[up].parent {
			if up == pid {
				total += s.cpu + s.ended
				break
			}
		}
	}
	return total, nil
}

// allStats reads /proc/*/stat.
func allStats() (map[int]procStat, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("/proc cannot be read: the bench needs Linux")
	}
	stats := make(map[int]procStat, len(files))
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // It ended meanwhile.
		}
		if pid, s, ok := parseStat(line); ok {
			stats[pid] = s
		}
	}
	return stats, nil
}

// parseStat reads one line: "pid (name) state ppid ...", where the name may hold anything; utime, stime,
// cutime and cstime are fields 14 to 17.
func parseStat(line []byte) (pid int, s procStat, ok bool) {
	open, end := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if open < 0 || end < 0 {
		return 0, s, false
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(line[:open])))
	if err != nil {
		return 0, s, false
	}
	fields := strings.Fields(string(line[end+1:])) // from field 3 on
	if len(fields) < 15 {
		return 0, s, false
	}
	s.parent, _ = strconv.Atoi(fields[1])
	for i, into := range []*time.Duration{&s.cpu, &s.cpu, &s.ended, &s.ended} {
		ticks, _ := strconv.ParseInt(fields[11+i], 10, 64)
		*into += time.Duration(ticks) * clockTick
	}
	return pid, s, true
}

// memoryOf reads a process's resident memory in bytes, now and at its peak.
func memoryOf(pid int) (rss, peak int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			rss = kib << 10
		case "VmHWM":
			peak = kib << 10
		}
	}
	return rss, peak, nil
}
