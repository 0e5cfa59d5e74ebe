package push

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/signet-hsm/signet/internal/outbox"
)

// Note is one push, before a provider gives it its form.
type Note struct {
	ID          uuid.UUID // the same at every attempt
	Silent      bool      // for the app, not for the user: Title, Body and Sound are not sent
	Title, Body string
	Sound       string
	CollapseKey string    // pushes with the same one may replace each other; "" none
	Expires     time.Time // zero: the provider's own limit
	Extras      map[string]any
}

// The keys and values of the extras, seed 002.
const (
	keyMessageType     = "messageType"
	keyOperationID     = "operationId"
	keyOperationName   = "operationName"
	keyOperationResult = "mtokenOperationResult"
	keyActivationID    = "activationId"
	keyInboxID         = "inboxId"

	typeOperationInit     = "mtoken.operationInit"
	typeOperationFinished = "mtoken.operationFinished"
	typeStatusChange      = "mtoken.statusChange"
	typeInbox             = "mtoken.inboxMessage.new"
)

var results = map[string]bool{
	"authentication.success": true, "authentication.fail": true, "operation.timeout": true,
	"operation.canceled": true, "operation.methodNotAvailable": true,
}

// maxPayload is what every provider takes: FCM's 4000 bytes, the least of them.
const maxPayload = 4000

// noteOf makes the push of an event for one registration.
func noteOf(e outbox.Event, registration string) (Note, error) {
	n := Note{ID: noteID(e.ID, registration), Title: e.Text("title"), Body: e.Text("message"), Sound: "default"}
	switch e.Kind {
	case outbox.OperationCreated:
		n.CollapseKey = e.Operation
		n.Expires, _ = time.Parse(time.RFC3339, e.Text("expires"))
		n.Extras = operationExtras(typeOperationInit, e, registration)
		n.Silent = n.Title == "" && n.Body == "" || e.Data["silent"] == true
	case outbox.OperationFinished:
		n.CollapseKey = e.Operation
		n.Extras = operationExtras(typeOperationFinished, e, registration)
		result := e.Text("result")
		if !results[result] {
			return Note{}, fmt.Errorf("push: no result %q", result)
		}
		n.Extras[keyOperationResult] = result
		n.Silent = true
	case outbox.RegistrationChanged:
		n.Extras = map[string]any{keyMessageType: typeStatusChange, keyActivationID: registration}
		n.Silent = true
	case outbox.InboxMessage:
		n.Extras = map[string]any{keyMessageType: typeInbox, keyInboxID: e.Text("inboxId")}
		n.Silent = e.Data["silent"] == true
	case outbox.MessageSend:
		n.Sound = e.Text("sound")
		n.Silent = e.Data["silent"] == true
		n.Extras, _ = e.Data["extras"].(map[string]any)
	default:
		return Note{}, fmt.Errorf("push: no push for %q", e.Kind)
	}
	if n.Silent {
		n.Title, n.Body, n.Sound = "", "", ""
	}
	return n, nil
}

func operationExtras(messageType string, e outbox.Event, registration string) map[string]any {
	return map[string]any{
		keyMessageType: messageType, keyOperationID: e.Operation, keyOperationName: e.Text("name"), keyActivationID: registration,
	}
}

// noteID is the same for every attempt to tell one registration of one event, so
// that a provider can drop the second of two.
func noteID(event uuid.UUID, registration string) uuid.UUID {
	return uuid.NewSHA1(event, []byte(registration))
}

// texts turns extras into the map of texts that FCM and HMS carry: a text stays
// itself, a null is left out, everything else becomes JSON.
func texts(extras map[string]any) (map[string]string, error) {
	out := make(map[string]string, len(extras))
	for k, v := range extras {
		if v == nil {
			continue
		}
		s, ok := v.(string)
		if !ok {
			raw, err := json.Marshal(v)
			if err != nil {
				return nil, fmt.Errorf("push: extras: %w", err)
			}
			s = string(raw)
		}
		out[k] = s
	}
	return out, nil
}
