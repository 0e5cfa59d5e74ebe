package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/signet-hsm/signet/client/powerauth"
	"github.com/signet-hsm/signet/signature"
)

// tokenRun is a deviceRun for which the phone's token answers.
type tokenRun func(ctx context.Context, out io.Writer, d *powerauth.Device, t powerauth.Token, args []string) error

func withToken(run tokenRun) deviceRun {
	return func(ctx context.Context, out io.Writer, p *phone, d *powerauth.Device, args []string) error {
		t, err := p.token(ctx, d)
		if err != nil {
			return err
		}
		return run(ctx, out, d, t, args)
	}
}

func addInboxVerbs(v verbs) {
	var page powerauth.InboxPage
	list := v.add("list", "List messages, the newest first", cobra.NoArgs, withToken(
		func(ctx context.Context, out io.Writer, d *powerauth.Device, t powerauth.Token, _ []string) error {
			unread, err := d.InboxCount(ctx, t)
			if err != nil {
				return err
			}
			list, err := d.Inbox(ctx, t, page)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%d unread\n", unread)
			for _, m := range list {
				fmt.Fprintf(out, "%s  %s  %s  %s\n", m.ID, m.Created.Format(time.RFC3339), mark(m), m.Subject)
			}
			return nil
		}))
	list.Flags().IntVar(&page.Number, "page", 0, "page, from 0")
	list.Flags().IntVar(&page.Size, "size", 100, "messages of a page, 1 to 500")
	list.Flags().BoolVar(&page.Unread, "unread", false, "only what is unread")

	v.add("show MESSAGE", "Show a message, which does not mark it as read", cobra.ExactArgs(1), withToken(
		func(ctx context.Context, out io.Writer, d *powerauth.Device, t powerauth.Token, args []string) error {
			m, err := d.InboxMessage(ctx, t, args[0])
			if err == nil {
				fmt.Fprintf(out, "%s (%s, %s)\n%s\n\n%s\n", m.Subject, mark(m), m.Type, m.Summary, m.Body)
			}
			return err
		}))

	var all bool
	read := v.add("read [MESSAGE]", "Mark a message, or all of them, as read", cobra.MaximumNArgs(1), withToken(
		func(ctx context.Context, _ io.Writer, d *powerauth.Device, t powerauth.Token, args []string) error {
			switch {
			case all == (len(args) == 1):
				return usageError{errors.New("a message or --all is needed, and not both")}
			case all:
				return d.ReadAllInbox(ctx, t)
			default:
				return d.ReadInbox(ctx, t, args[0])
			}
		}))
	read.Flags().BoolVar(&all, "all", false, "all messages")
}

func mark(m powerauth.InboxMessage) string {
	if m.Read {
		return "read"
	}
	return "unread"
}

func addPushVerbs(v verbs) {
	var byToken bool
	register := v.add("register PLATFORM TOKEN", "Tell the provider (apns, fcm, hms) and its token of this phone", cobra.ExactArgs(2),
		func(ctx context.Context, _ io.Writer, p *phone, d *powerauth.Device, args []string) error {
			to := powerauth.PushTarget{Platform: args[0], Token: args[1]}
			if !byToken {
				return d.RegisterPush(ctx, to, signature.Possession)
			}
			t, err := p.token(ctx, d)
			if err != nil {
				return err
			}
			return d.RegisterPushByToken(ctx, to, t)
		})
	register.Flags().BoolVar(&byToken, "by-token", false, "prove the phone by its token instead of a signature")
}
