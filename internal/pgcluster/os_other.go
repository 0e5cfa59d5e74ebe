//go:build !linux

package pgcluster

import (
	"context"
	"os"
	"syscall"
)

// Elsewhere no signal reaches the server when signet is killed, and /proc, by
// which orphans are told from strangers, is not there.
func sysProcAttr(*account) *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

func takeLock(context.Context, string) (*os.File, error) { return nil, ErrUnsupported }
