package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/signature"
)

// phone is the file that plays the phone: what an app is built with and what an
// activation left in it. Everything lies open in it.
type phone struct {
	REST              string           `json:"rest"`
	ApplicationKey    string           `json:"applicationKey"`
	ApplicationSecret string           `json:"applicationSecret"`
	MasterPublicKey   string           `json:"masterPublicKey"`
	Activation        json.RawMessage  `json:"activation,omitempty"`
	Token             *powerauth.Token `json:"token,omitempty"`
	User              string           `json:"user,omitempty"` // whose it is, when that is known here

	path string
}

func (p *phone) config() powerauth.Config {
	return powerauth.Config{
		BaseURL: p.REST, ApplicationKey: p.ApplicationKey, ApplicationSecret: p.ApplicationSecret,
		MasterPublicKey: p.MasterPublicKey, Version: signature.V33, HTTP: &http.Client{Timeout: 15 * time.Second},
	}
}

func loadPhone(path string) (*phone, *powerauth.Device, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w (signet device activate makes it)", err)
	}
	p := &phone{path: path}
	if err := json.Unmarshal(raw, p); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	d, err := powerauth.Import(p.config(), p.Activation)
	return p, d, err
}

// save comes before anything that was computed is shown: a counter that was
// used once must never be used again.
func (p *phone) save(d *powerauth.Device) error {
	var err error
	switch p.Activation, err = d.Export(); {
	case errors.Is(err, powerauth.ErrNotActive): // it removed itself: no phone is left
		return os.Remove(p.path)
	case err != nil:
		return err
	}
	return writeJSON(p.path, p, 0o600)
}

// deviceRun is one verb with the phone at hand; the phone is saved afterwards,
// also when it failed, since the counter may have moved.
type deviceRun func(ctx context.Context, out io.Writer, p *phone, d *powerauth.Device, args []string) error

// verbs are those below one command, with the phone of --state.
type verbs struct {
	state  *string
	parent *cobra.Command
}

func (v verbs) add(use, short string, args cobra.PositionalArgs, run deviceRun) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: usageArgs(args), RunE: func(cmd *cobra.Command, args []string) error {
		p, d, err := loadPhone(*v.state)
		if err != nil {
			return err
		}
		var out strings.Builder
		err = run(cmd.Context(), &out, p, d, args)
		if err := errors.Join(err, p.save(d)); err != nil {
			return err
		}
		_, err = io.WriteString(cmd.OutOrStdout(), out.String())
		return err
	}}
	v.parent.AddCommand(c)
	return c
}

// group is a verb that only has verbs below it.
func (v verbs) group(use, short string) verbs {
	c := &cobra.Command{Use: use, Short: short, Args: noArgs}
	v.parent.AddCommand(c)
	return verbs{v.state, c}
}

func deviceCommand() *cobra.Command {
	var state string
	cmd := &cobra.Command{
		Use:   "device",
		Short: "Play a phone: activate, sign, approve, without one",
		Long: `A reference device for trying a service without a phone. Its state, PRIVATE KEYS
INCLUDED, lies in the clear in the file --state. A signature is used up when it is
printed, whether it is sent or not.`,
		Args: noArgs,
	}
	cmd.PersistentFlags().StringVar(&state, "state", "device.json", "file that plays the phone")
	verb := verbs{&state, cmd}.add
	cmd.AddCommand(deviceActivate(&state))
	verb("status", "Ask the server for the registration's state", cobra.NoArgs, deviceStatus)
	var method, uriID, body, factors string
	sign := verb("sign", "Print the X-PowerAuth-Authorization header for a request", cobra.NoArgs,
		func(_ context.Context, out io.Writer, _ *phone, d *powerauth.Device, _ []string) error {
			f, ok := signature.ParseFactors(factors)
			if !ok {
				return usageError{fmt.Errorf("--factors: %q is not known", factors)}
			}
			content, err := readBody(body)
			if err != nil {
				return err
			}
			header, err := d.Sign(method, uriID, content, f)
			if err == nil {
				fmt.Fprintln(out, header)
			}
			return err
		})
	sign.Flags().StringVar(&method, "method", "POST", "method of the request")
	sign.Flags().StringVar(&uriID, "uri-id", "", "agreed id of the resource")
	sign.Flags().StringVar(&body, "body", "", "file with the request's body, - for standard input; none: empty")
	sign.Flags().StringVar(&factors, "factors", "possession_knowledge", "signature type")
	_ = sign.MarkFlagRequired("uri-id")

	verb("token", "Print an X-PowerAuth-Token header; the first call makes the token", cobra.NoArgs, deviceToken)
	var biometry bool
	otp := verb("otp QR", "Show what a scanned offline code asks, and the OTP that approves it", cobra.ExactArgs(1),
		func(_ context.Context, out io.Writer, _ *phone, d *powerauth.Device, args []string) error {
			return deviceOTP(out, d, args[0], biometry)
		})
	otp.Flags().BoolVar(&biometry, "biometry", false, "approve with biometry instead of knowledge")
	verb("operations", "List what waits for the person's decision", cobra.NoArgs, deviceOperations)
	var proximity string
	approve := verb("approve OPERATION", "Approve an operation online", cobra.ExactArgs(1),
		func(ctx context.Context, _ io.Writer, p *phone, d *powerauth.Device, args []string) error {
			f := signature.PossessionKnowledge
			if biometry {
				f = signature.PossessionBiometry
			}
			o, err := p.operation(ctx, d, args[0])
			if err != nil {
				return err
			}
			o.ProximityOTP = proximity
			return d.Approve(ctx, o, f)
		})
	approve.Flags().BoolVar(&biometry, "biometry", false, "approve with biometry instead of knowledge")
	approve.Flags().StringVar(&proximity, "proximity", "", "OTP from the screen in front of the person, when the operation asks for it")
	verb("reject OPERATION", "Reject an operation online", cobra.ExactArgs(1),
		func(ctx context.Context, _ io.Writer, _ *phone, d *powerauth.Device, args []string) error {
			return d.Reject(ctx, powerauth.Operation{ID: args[0]}, "UNKNOWN")
		})
	verb("history", "List operations of any state, the newest first", cobra.NoArgs, deviceHistory)
	addInboxVerbs(verbs{&state, cmd}.group("inbox", "Read the messages to the user"))
	addPushVerbs(verbs{&state, cmd}.group("push", "Tell where this phone's pushes go"))
	verb("rename NAME", "Give the registration another name", cobra.ExactArgs(1),
		func(ctx context.Context, _ io.Writer, _ *phone, d *powerauth.Device, args []string) error {
			return d.Rename(ctx, args[0], signature.PossessionKnowledge)
		})
	verb("remove", "Remove the registration at the server", cobra.NoArgs,
		func(ctx context.Context, _ io.Writer, _ *phone, d *powerauth.Device, _ []string) error {
			return d.RemoveActivation(ctx, signature.PossessionKnowledge)
		})
	return cmd
}

func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

func deviceActivate(state *string) *cobra.Command {
	var (
		envFile, name, otp string
		identity           map[string]string
	)
	cmd := &cobra.Command{
		Use:   "activate [CODE]",
		Short: "Exchange keys with the server by an activation code, as typed or as scanned",
		Long: `Takes the service's address and what an app is built with from the environment or
from the file --env: SIGNET_REST, SIGNET_PA_APP_KEY, SIGNET_PA_APP_SECRET,
SIGNET_PA_MASTER_PUBLIC_KEY (signet dev and signet bootstrap write them).

Without a code, --identity says who it is to the service that the server asks.`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 0) == (len(identity) == 0) {
				return usageError{errors.New("a code or --identity is needed, and not both")}
			}
			if _, err := os.Stat(*state); err == nil {
				return usageError{fmt.Errorf("%s exists already: it is another phone", *state)}
			}
			env, err := readEnv(envFile)
			if err != nil {
				return err
			}
			get := func(key string) string {
				if v := os.Getenv(key); v != "" {
					return v
				}
				return env[key]
			}
			p := &phone{
				REST: get("SIGNET_REST"), ApplicationKey: get("SIGNET_PA_APP_KEY"),
				ApplicationSecret: get("SIGNET_PA_APP_SECRET"), MasterPublicKey: get("SIGNET_PA_MASTER_PUBLIC_KEY"), path: *state,
			}
			d, err := powerauth.New(p.config())
			if err != nil {
				return usageError{err}
			}
			o := powerauth.ActivateOptions{Name: name, OTP: otp, Platform: "android"}
			if len(args) == 1 {
				err = d.Activate(cmd.Context(), args[0], o)
			} else {
				err = d.ActivateCustom(cmd.Context(), attributes(identity), o)
			}
			if err != nil {
				return err
			}
			if err := p.save(d); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "registration %s\nfingerprint  %s\n", d.ActivationID(), d.Fingerprint())
			return nil
		},
	}
	cmd.Flags().StringVar(&envFile, "env", "", "file of KEY=value lines")
	cmd.Flags().StringVar(&name, "name", "signet device", "name of the device")
	cmd.Flags().StringVar(&otp, "otp", "", "activation OTP, when the registration asks for one")
	cmd.Flags().StringToStringVar(&identity, "identity", nil, "attributes that say who it is, e.g. voucher=V-1")
	return cmd
}

func attributes(in map[string]string) map[string]any {
	out := make(map[string]any, len(in))
	for name, value := range in {
		out[name] = value
	}
	return out
}

func deviceStatus(ctx context.Context, out io.Writer, _ *phone, d *powerauth.Device, _ []string) error {
	s, err := d.Status(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s, %d of %d failed attempts, counter %d ahead of the server\n", s.State, s.FailedAttempts, s.MaxFailedAttempts, s.Ahead)
	if s.SignSoon {
		return d.ValidateSignature(ctx, signature.PossessionKnowledge)
	}
	return nil
}

// token makes the phone's token when it has none yet.
func (p *phone) token(ctx context.Context, d *powerauth.Device) (powerauth.Token, error) {
	if p.Token == nil {
		t, err := d.CreateToken(ctx, signature.PossessionKnowledge)
		if err != nil {
			return powerauth.Token{}, err
		}
		p.Token = &t
	}
	return *p.Token, nil
}

// operation fetches a pending operation as the server shows it.
func (p *phone) operation(ctx context.Context, d *powerauth.Device, id string) (powerauth.Operation, error) {
	t, err := p.token(ctx, d)
	if err != nil {
		return powerauth.Operation{}, err
	}
	return d.Operation(ctx, t, id)
}

func deviceToken(ctx context.Context, out io.Writer, p *phone, d *powerauth.Device, _ []string) error {
	t, err := p.token(ctx, d)
	if err != nil {
		return err
	}
	header, err := d.TokenHeader(t)
	if err == nil {
		fmt.Fprintln(out, header)
	}
	return err
}

func deviceOperations(ctx context.Context, out io.Writer, p *phone, d *powerauth.Device, _ []string) error {
	t, err := p.token(ctx, d)
	if err != nil {
		return err
	}
	list, err := d.Operations(ctx, t)
	for _, o := range list {
		fmt.Fprintf(out, "%s  %s  %s\n    %s: %s\n", o.ID, o.Name, o.Data, o.Form.Title, o.Form.Message)
	}
	return err
}

func deviceHistory(ctx context.Context, out io.Writer, _ *phone, d *powerauth.Device, _ []string) error {
	list, err := d.History(ctx, signature.PossessionKnowledge)
	for _, o := range list {
		fmt.Fprintf(out, "%s  %s  %s  %s\n", o.ID, o.Status, o.Name, o.Data)
	}
	return err
}

func deviceOTP(out io.Writer, d *powerauth.Device, code string, biometry bool) error {
	f := signature.PossessionKnowledge
	if biometry {
		f = signature.PossessionBiometry
	}
	scanned, err := d.ScanOffline(code)
	if err != nil {
		return err
	}
	otp, err := d.SignOffline(scanned.Offline, f)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n%s\n%s\nOTP %s\n", scanned.Title, scanned.Message, scanned.Data, otp)
	return nil
}

func readBody(name string) ([]byte, error) {
	switch name {
	case "":
		return nil, nil
	case "-":
		return io.ReadAll(os.Stdin)
	default:
		return os.ReadFile(name)
	}
}
