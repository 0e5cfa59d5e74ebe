package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/internal/load"
)

const (
	loadTimeout = 15 * time.Second // of one call
	loadEvery   = time.Second      // between two lines of progress
)

// errLoad: the summary, which was printed, has what a caller must not overlook.
var errLoad = errors.New("the installation answered wrongly, or nothing well")

type loadOptions struct {
	env, api, mix, dir, json string
	devices, concurrency     int
	connections              int
	duration                 time.Duration
	count                    int64
	rate                     float64
	ca, cert, key            string
	leave                    bool
}

func loadCommand() *cobra.Command {
	var o loadOptions
	cmd := &cobra.Command{
		Use:   "load",
		Short: "Drive an installation with simulated phones and measure it",
		Long: `Activates phones at an installation (or takes those that an earlier run left in
--devices-dir), and calls it over gRPC or REST as an application tier does, with
what the phones sign: signatures (verify), token headers (token), offline codes
(otp) and certificate requests (issue), in the proportions of --mix. Every verdict
is held against what is true; exit status 1 when one was wrong or none was good.

Without --rate each of the --concurrency callers calls again when it has its answer.
With --rate calls are due at that rate, and their time counts from when they were
due: what a stall kept waiting is charged to it.

Addresses and credentials come from the environment or the file --env, never from
arguments: SIGNET_REST, SIGNET_GRPC (host:port), SIGNET_PA_APP (user:password),
SIGNET_PA_APP_ID, SIGNET_PA_APP_KEY, SIGNET_PA_APP_SECRET,
SIGNET_PA_MASTER_PUBLIC_KEY; for otp SIGNET_PA_ADMIN (it makes the operation
template "signet-load"); for issue SIGNET_TENANT and SIGNET_TOKEN_ADMIN_WRITE.
` + "`signet dev`" + ` and ` + "`signet bootstrap`" + ` write such files. gRPC uses TLS when
SIGNET_REST is https.

Phones that are not kept in --devices-dir are removed at the end. Their private keys
lie in the clear in that folder: it is for installations that test something.
Ctrl-C ends the run; what was begun is waited for, and the summary printed.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runLoad(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.env, "env", "", "file of KEY=value lines")
	f.StringVar(&o.api, "api", "grpc", "grpc or rest")
	f.StringVar(&o.mix, "mix", "verify=1", "kinds of calls with their weights: verify, token, otp, issue")
	f.IntVar(&o.concurrency, "concurrency", 64, "callers at once")
	f.IntVar(&o.connections, "connections", 0, "connections; 0: 8 for gRPC, one for each caller for REST")
	f.IntVar(&o.devices, "devices", 0, "simulated phones, at least one for each caller; 0: one for each")
	f.StringVar(&o.dir, "devices-dir", "", "folder that keeps the phones for the next run")
	f.DurationVar(&o.duration, "duration", 30*time.Second, "length of the run; 0: until --count")
	f.Int64Var(&o.count, "count", 0, "end after so many calls; 0: after --duration")
	f.Float64Var(&o.rate, "rate", 0, "calls a second; 0: as fast as answers come")
	f.StringVar(&o.json, "json", "", "file for the summary as JSON; - for standard output, instead of the text")
	f.StringVar(&o.ca, "ca", "", "PEM of the CAs that the server's certificate may stand below; none: the system's")
	f.StringVar(&o.cert, "cert", "", "PEM of a client certificate, for mTLS")
	f.StringVar(&o.key, "key", "", "PEM of its key")
	f.BoolVar(&o.leave, "leave", false, "do not remove the phones at the end")
	return cmd
}

// mix is kinds of calls, each as often as its weight.
func parseMix(s string) ([]string, error) {
	var kinds []string
	for _, part := range strings.Split(s, ",") {
		name, weight, ok := strings.Cut(part, "=")
		n, err := strconv.Atoi(weight)
		if !ok || err != nil || n < 0 || n > 1000 || !slices.Contains(loadKinds, name) {
			return nil, fmt.Errorf("--mix: %q is not %s=WEIGHT, a weight from 0 to 1000", part, strings.Join(loadKinds, "|"))
		}
		kinds = append(kinds, slices.Repeat([]string{name}, n)...)
	}
	if len(kinds) == 0 {
		return nil, errors.New("--mix: nothing to call")
	}
	return kinds, nil
}

func (o *loadOptions) check() (kinds []string, err error) {
	if o.devices == 0 {
		o.devices = o.concurrency
	}
	kinds, err = parseMix(o.mix)
	switch {
	case err != nil:
	case o.api != "grpc" && o.api != "rest":
		err = fmt.Errorf("--api: %q is neither grpc nor rest", o.api)
	case o.concurrency < 1 || o.devices < o.concurrency || o.connections < 0:
		err = errors.New("--concurrency must be positive, and --devices no less")
	case o.rate < 0 || o.count < 0 || o.duration < 0 || o.duration == 0 && o.count == 0:
		err = errors.New("give --duration or --count, and no negative --rate")
	case (o.cert == "") != (o.key == ""):
		err = errors.New("--cert and --key belong together")
	}
	if err != nil {
		return nil, usageError{err}
	}
	return kinds, nil
}

func runLoad(ctx context.Context, o loadOptions, out, progress io.Writer) error {
	kinds, err := o.check()
	if err != nil {
		return err
	}
	site, err := openLoadSite(o, kinds)
	if err != nil {
		return usageError{err}
	}
	defer site.close()
	fleet, err := site.muster(ctx, o, progress)
	if err != nil {
		return errors.Join(err, fleet.keep(context.WithoutCancel(ctx), o))
	}
	callers, err := site.callers(fleet, o, kinds)
	if err != nil {
		return errors.Join(err, fleet.keep(context.WithoutCancel(ctx), o))
	}
	line := progressLine{w: progress}
	summary, err := load.Run(ctx, load.Plan{
		Callers: callers, Duration: o.duration, Count: o.count, Rate: o.rate, Timeout: loadTimeout,
		Every: loadEvery, Report: line.write,
	})
	line.end()
	kept := fleet.keep(context.WithoutCancel(ctx), o)
	if err != nil {
		return errors.Join(err, kept)
	}
	if err := errors.Join(report(out, o, summary), kept); err != nil {
		return err
	}
	if summary.Wrong > 0 || summary.OK == 0 {
		return errLoad
	}
	return nil
}

// loadReport is the summary with what it was made by.
type loadReport struct {
	API         string  `json:"api"`
	Mix         string  `json:"mix"`
	Concurrency int     `json:"concurrency"`
	Devices     int     `json:"devices"`
	Target      float64 `json:"targetRate,omitempty"` // of an open loop
	load.Summary
}

func report(out io.Writer, o loadOptions, s load.Summary) error {
	if o.json != "-" {
		s.Write(out)
	}
	if o.json == "" {
		return nil
	}
	raw, err := json.MarshalIndent(loadReport{o.api, o.mix, o.concurrency, o.devices, o.rate, s}, "", "  ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if o.json == "-" {
		_, err = out.Write(raw)
		return err
	}
	return os.WriteFile(o.json, raw, 0o644)
}

// progressLine is one line that is written anew on a terminal, and a line each time
// elsewhere.
type progressLine struct {
	w    io.Writer
	open bool
}

func (l *progressLine) write(p load.Progress) {
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	text := fmt.Sprintf("%4.0fs %9.0f/s  p50 %.2f  p90 %.2f  p99 %.2f ms  %d ok  %d wrong  %d refused  %d failed",
		p.Elapsed.Seconds(), p.Rate, ms(p.P50), ms(p.P90), ms(p.P99), p.Done, p.Wrong, p.Refused, p.Failed)
	if f, ok := l.w.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprintf(l.w, "\r\x1b[K%s", text)
			l.open = true
			return
		}
	}
	fmt.Fprintln(l.w, text)
}

func (l *progressLine) end() {
	if l.open {
		fmt.Fprintln(l.w)
	}
}
