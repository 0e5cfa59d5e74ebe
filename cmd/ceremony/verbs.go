package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/ceremony"
	"github.com/signet-hsm/signet/ceremony/custody"
	"github.com/signet-hsm/signet/internal/conf"
	"github.com/signet-hsm/signet/internal/secret"
)

func preflightCommand() *cobra.Command {
	var c common
	cmd := &cobra.Command{
		Use: "preflight", Short: "Find whatever is wrong, and change nothing", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, o, done, err := c.open(cmd.Context())
			defer done()
			if err != nil {
				return err
			}
			list, err := ceremony.Preflight(cmd.Context(), plan, o)
			for _, f := range list {
				fmt.Fprintf(cmd.OutOrStdout(), "ok  %-7s %s\n", f.Name, f.Finding)
			}
			return err
		},
	}
	c.flags(cmd, false)
	return cmd
}

func rehearseCommand() *cobra.Command {
	var plan, out string
	cmd := &cobra.Command{
		Use: "rehearse", Short: "Carry out the same plan on a throw-away SoftHSM token", Args: noArgs,
		Long: `Carries out the plan by the same code on a SoftHSM token that is made for it and
destroyed after. People, and CAs and keys that the plan finds, are played by stand-ins.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := ceremony.Load(plan)
			if err != nil {
				return usageError{err}
			}
			result, err := ceremony.Rehearse(cmd.Context(), p, out)
			if err != nil {
				return err
			}
			return report(cmd.OutOrStdout(), "rehearsed", out, result.Transcript)
		},
	}
	cmd.Flags().StringVar(&plan, "plan", "", "plan (YAML)")
	cmd.Flags().StringVar(&out, "out", "", "folder for the outputs of the rehearsal; must not exist")
	for _, f := range []string{"plan", "out"} {
		_ = cmd.MarkFlagRequired(f)
	}
	return cmd
}

func runCommand() *cobra.Command {
	return execute("run", "Carry out a plan", func(*ceremony.Plan) error { return nil })
}

// planVerb is run for a plan with steps of these kinds only, and one of the first at
// the least: who types `key destroy` gets nothing else done.
func planVerb(use, short string, kinds ...string) *cobra.Command {
	return execute(use, short+", by a plan of such steps", func(p *ceremony.Plan) error { return p.Only(kinds...) })
}

func execute(use, short string, check func(*ceremony.Plan) error) *cobra.Command {
	var c common
	cmd := &cobra.Command{
		Use: use, Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, o, done, err := c.open(cmd.Context())
			defer done()
			if err == nil {
				err = check(&plan)
			}
			if err != nil {
				return err
			}
			result, err := ceremony.Execute(cmd.Context(), plan, o)
			if err != nil {
				if errors.Is(err, ceremony.ErrStep) {
					fmt.Fprintf(cmd.ErrOrStderr(), "ceremony: what was done stands in %s; mend the cause and give the command again with --resume\n", filepath.Join(c.out, ceremony.TranscriptFile))
				}
				return err
			}
			return report(cmd.OutOrStdout(), "done", c.out, result.Transcript)
		},
	}
	c.flags(cmd, true)
	return cmd
}

// report tells people what to write down.
func report(w io.Writer, what, out, last string) error {
	raw, err := hex.DecodeString(last)
	if err != nil || len(raw) != 32 {
		return errors.New("the transcript has no last line")
	}
	words, err := ceremony.Words([32]byte(raw))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: %s\ntranscript %s\n%s\nwrite the hash down, or its words: it tells this transcript from any other\n", what, out, last, words)
	return err
}

func transcriptCommand() *cobra.Command {
	verify := &cobra.Command{
		Use: "verify DIR|FILE", Short: "Is a transcript intact, whole and signed by all who had to?", Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := os.Stat(args[0])
			if err != nil {
				return usageError{err}
			}
			last := ""
			if info.IsDir() {
				last, err = ceremony.VerifyFolder(args[0])
			} else {
				var f *os.File
				if f, err = os.Open(args[0]); err == nil {
					last, err = ceremony.VerifyTranscript(f)
					_ = f.Close()
				}
			}
			if err != nil {
				return err
			}
			return report(cmd.OutOrStdout(), "intact", args[0], last)
		},
	}
	printed := &cobra.Command{
		Use: "print FILE", Short: "Write the printable form (HTML) of a transcript to standard output", Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return usageError{err}
			}
			defer f.Close()
			return ceremony.Print(cmd.OutOrStdout(), f)
		},
	}
	return group("transcript", "Transcripts", verify, printed)
}

func oneArg(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

func personCommand() *cobra.Command {
	var out, role string
	var protect bool
	cmd := &cobra.Command{
		Use: "new NAME", Short: "Make the key file of a person, and print the lines for the plan", Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := custody.NewKey(args[0])
			if err != nil {
				return err
			}
			defer k.Wipe()
			var passphrase secret.Bytes
			if protect {
				if passphrase, err = (conf.SecretSource{Prompt: "new passphrase"}).Read(cmd.Context()); err != nil {
					return err
				}
				defer passphrase.Wipe()
				again, err := (conf.SecretSource{Prompt: "the same again"}).Read(cmd.Context())
				if err != nil {
					return err
				}
				defer again.Wipe()
				if !again.Equal(passphrase.Reveal()) {
					return usageError{errors.New("the two passphrases differ")}
				}
			}
			if err := k.Write(out, passphrase); err != nil {
				return err
			}
			p := k.Person(role)
			text, err := json.Marshal(p) // JSON is YAML
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "  - %s\n", text)
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "key file; must not exist; on a medium of the person's own")
	cmd.Flags().StringVar(&role, "role", "ceremony officer", "what the person does in the ceremony")
	cmd.Flags().BoolVar(&protect, "passphrase", false, "encrypt the file under a passphrase that is asked for")
	_ = cmd.MarkFlagRequired("out")
	return group("person", "People: who signs, and who has shares", cmd)
}

func backupCommand() *cobra.Command {
	var config, file string
	var people []string
	verify := &cobra.Command{
		Use: "verify", Short: "Restore a backup on a second token, compare the public key, destroy it there", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := readPeople(cmd.Context(), people)
			if err != nil {
				return err
			}
			content, err := os.ReadFile(file)
			if err != nil {
				return usageError{err}
			}
			b, err := ceremony.ParseBackup(content)
			if err != nil {
				return err
			}
			h, err := loadHSM(config, keys)
			if err != nil {
				return err
			}
			token, err := openToken(cmd.Context(), h)
			if err != nil {
				return err
			}
			defer func() { _ = token.Close() }()
			k, err := ceremony.VerifyBackup(cmd.Context(), token, b, keys)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s restored, signed for its public key (SHA-256 %s), and destroyed on the second token\n", k.Ref, b.SPKISHA256)
			return err
		},
	}
	verify.Flags().StringVar(&config, "hsm", "", "configuration of the second token (YAML)")
	verify.Flags().StringVar(&file, "backup", "", "file of the backup")
	verify.Flags().StringArrayVar(&people, "person", nil, "key file of a custodian; once for each")
	for _, f := range []string{"hsm", "backup"} {
		_ = verify.MarkFlagRequired(f)
	}
	return group("backup", "Backups of keys",
		planVerb("wrap", "Make keys that have a backup", "key", "root", "intermediate", "csr", "existing", "backup_verify", "crl"), verify,
		planVerb("restore", "Put keys back from their backups", "restore", "inventory"))
}

func inventoryCommand() *cobra.Command {
	var config string
	var people []string
	cmd := &cobra.Command{
		Use: "inventory", Short: "List every object of the token with its attributes, as JSON lines", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keys, err := readPeople(cmd.Context(), people)
			if err != nil {
				return err
			}
			h, err := loadHSM(config, keys)
			if err != nil {
				return err
			}
			token, err := openToken(cmd.Context(), h)
			if err != nil {
				return err
			}
			defer func() { _ = token.Close() }()
			officer, err := token.Officer()
			if err != nil {
				return err
			}
			list, err := officer.Inventory(cmd.Context())
			if err != nil {
				return err
			}
			var text strings.Builder
			for _, o := range list {
				line, err := json.Marshal(o)
				if err != nil {
					return err
				}
				text.Write(append(line, '\n'))
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text.String())
			return err
		},
	}
	cmd.Flags().StringVar(&config, "hsm", "", "configuration of the token (YAML)")
	cmd.Flags().StringArrayVar(&people, "person", nil, "key file of a custodian; once for each")
	_ = cmd.MarkFlagRequired("hsm")
	return cmd
}
