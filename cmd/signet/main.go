package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/hsm/broker"
	"github.com/signet-hsm/signet/hsm/broker/worker"
)

// version is set by the linker (see Makefile).
var version = "unknown"

// errUsage marks a failure that the caller can mend without looking further.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	// Before all else: a worker is no service, and must not behave as one.
	if len(os.Args) == 3 && os.Args[1] == broker.Verb {
		os.Exit(worker.Main(os.Args[2]))
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what does not end by itself
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "signet:", err)
	if hint := advice(err); hint != "" {
		fmt.Fprintln(os.Stderr, "signet:", hint)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var usage usageError
	switch {
	case errors.As(err, &usage):
		return 2
	case slices.ContainsFunc(operatorMustAct, func(s error) bool { return errors.Is(err, s) }):
		return 3
	}
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "signet",
		Short:         "HSM-backed certificate authority and PowerAuth verification server",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(devCommand(), serveCommand(), checkCommand(), migrateCommand(), bootstrapCommand(), ceremonyCommand(), caCommand(), keysCommand(), rollbackCommand(), auditCommand(), deviceCommand(), loadCommand(), versionCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "signet %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}
