package pgcluster

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clearOrphan ends every server process that still runs on our data folder,
// left by a signet that was killed, and removes a postmaster.pid that would keep
// the next one from starting. We hold the folder's lock: no living signet owns
// them.
func clearOrphan(ctx context.Context, l *layout, log *slog.Logger) error {
	pids, err := serverProcesses(l.data())
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return removeStalePidFile(l, log)
	}
	log.Warn("postgresql of an earlier run still there, stopping it", "dir", l.dir, "pids", len(pids))
	// Gentle first: a fast shutdown may be under way already (the death signal).
	// Without a living postmaster the rest are strays that hold the shared memory;
	// they have nothing left to write.
	postmaster, _ := pidFile(l.data())
	if pids[postmaster] {
		signalServer(l.data(), postmaster, syscall.SIGINT)
		if gone, err := waitGone(ctx, l.data(), 10*time.Second); gone || err != nil {
			return err
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		if pids, err = serverProcesses(l.data()); err != nil {
			return err
		}
		for pid := range pids {
			signalServer(l.data(), pid, s)
		}
		if gone, err := waitGone(ctx, l.data(), 3*time.Second); gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("processes of an earlier PostgreSQL on %s do not end", l.data())
}

func waitGone(ctx context.Context, data string, limit time.Duration) (bool, error) {
	deadline := time.Now().Add(limit)
	for {
		pids, err := serverProcesses(data)
		if err != nil || len(pids) == 0 {
			return len(pids) == 0, err
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("waiting for an earlier PostgreSQL to end: %w", ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// serverProcesses finds PostgreSQL processes by their working directory, which
// for every one of them is its data folder. A pid file proves less: it may be
// stale, and its pid may be somebody else's by now.
func serverProcesses(data string) (map[int]bool, error) {
	want, err := os.Stat(data)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	pids := map[int]bool{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && isServer(pid, want) {
			pids[pid] = true
		}
	}
	return pids, nil
}

// isServer reports whether pid is a PostgreSQL process of the data folder. A
// process we may not look into is not ours.
func isServer(pid int, data os.FileInfo) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	exe, err := os.Readlink(proc + "/exe")
	// A program that was replaced by an upgrade reads "... (deleted)".
	if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != "postgres" {
		return false
	}
	cwd, err := os.Stat(proc + "/cwd")
	return err == nil && os.SameFile(cwd, data)
}

// signalServer signals pid if it is still a server of the folder. The handle is
// opened before the check, so a pid that changes hands in between is not hit.
func signalServer(data string, pid int, s syscall.Signal) {
	want, err := os.Stat(data)
	if err != nil {
		return
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	defer func() { _ = p.Release() }()
	if isServer(pid, want) {
		_ = p.Signal(s)
	}
}

// removeStalePidFile helps where PostgreSQL gives up: it takes the pid in a left
// over postmaster.pid for a running server when that pid now belongs to any
// process of the same user.
func removeStalePidFile(l *layout, log *slog.Logger) error {
	pid, _ := pidFile(l.data())
	if pid <= 0 || syscall.Kill(pid, 0) == syscall.ESRCH {
		return nil // absent, or PostgreSQL sees for itself that it is stale
	}
	log.Warn("stale postmaster.pid, its pid belongs to another program now", "dir", l.dir, "pid", pid)
	return os.Remove(filepath.Join(l.data(), "postmaster.pid"))
}
