// Package powerauth is a reference device: it activates with a PowerAuth 3.x
// server and signs requests. Tests, the tour and load tools use it; so may
// integrators who want to see the device's side of the protocol in one place.
//
// It is written against the protocol, not against the server: of signet's code
// it imports only the kernel (package signature), never a domain or an API
// package, and it talks HTTP only.
//
// # A device's life
//
//	d, err := powerauth.New(powerauth.Config{BaseURL: ..., ApplicationKey: ..., ...})
//	err = d.Activate(ctx, "NTF5I-R3KHV-SZN6E-ISYBA#MEUC...", powerauth.ActivateOptions{Name: "My phone"})
//	d.Fingerprint()                     // compare with what the server shows, then commit there
//	header, err := d.Sign("POST", "/operation/authorize", body, signature.PossessionKnowledge)
//	token, err := d.CreateToken(ctx, signature.Possession)
//	header, err = d.TokenHeader(token)
//	status, err := d.Status(ctx)        // and the counters are together again
//	list, err := d.Operations(ctx, token)
//	err = d.Approve(ctx, list[0], signature.PossessionKnowledge)
//	messages, err := d.Inbox(ctx, token, powerauth.InboxPage{})
//	err = d.RemoveActivation(ctx, signature.PossessionKnowledge)
//
// A Device is new or activated; the second Activate is ErrActivated. Every
// signature moves the counter by one, whether the request is sent or not. All
// methods are safe for concurrent use, but the order in which concurrent
// signatures reach the server decides: one that a later one has overtaken is
// refused there. Clients that care sign one request after the other.
//
// # What it does not do
//
// The SDK of a phone wraps the keys of the factors: knowledge by the PIN, biometry
// by the secure element. Here all keys lie open in memory and in the state that
// Export writes, so a signature with a wrong PIN can not be made; it stands for a
// person who always types the right one. Keep exported state as you would keep
// the phone.
//
// With protocol 3.3 messages are encrypted for temporary keys; the device fetches
// and renews them by itself and believes only those that the application's master
// key, or the activation's server key, has signed for its own challenge. One
// device may go up from 3.0 to 3.3 at any time: Import its state with another
// Config.Version.
//
// There is a method for every endpoint that a device has: /pa/v3, the mobile token
// API of operations, push registration and the inbox. A test of api/powerauth holds
// the server's table of routes against what the methods call.
//
// Sources: PowerAuth protocol 3.0 to 3.3, and the wire format of
// powerauth-restful-integration.
package powerauth
