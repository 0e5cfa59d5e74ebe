package callback

import (
	"encoding/json"
	"fmt"

	"github.com/signet-hsm/signet/internal/outbox"
)

// activation is the body about a registration, in the words of PowerAuth server.
type activation struct {
	Type          string `json:"type"` // ACTIVATION
	ActivationID  string `json:"activationId"`
	ApplicationID string `json:"applicationId"`
	UserID        string `json:"userId"`
	Status        string `json:"activationStatus"`
	BlockedReason string `json:"blockedReason,omitempty"`
	Timestamp     int64  `json:"timestamp"` // of the change, Unix milliseconds; ours, for order
}

// operation is the body about an operation.
type operation struct {
	Type          string   `json:"type"` // OPERATION
	OperationID   string   `json:"operationId"`
	Applications  []string `json:"applications"`
	UserID        string   `json:"userId"`
	OperationType string   `json:"operationType"`
	Status        string   `json:"status"`
	ExternalID    string   `json:"externalId,omitempty"`
	Timestamp     int64    `json:"timestamp"`
}

// statuses are the states behind the results of a push; an event that has a
// "status" says it more exactly (REJECTED and FAILED are one result).
var statuses = map[string]string{
	"authentication.success":       "APPROVED",
	"authentication.fail":          "FAILED",
	"operation.timeout":            "EXPIRED",
	"operation.canceled":           "CANCELED",
	"operation.methodNotAvailable": "FAILED",
}

func typeOf(k outbox.Kind) Type {
	if k == outbox.RegistrationChanged {
		return Registrations
	}
	return Operations
}

func payload(e outbox.Event) ([]byte, error) {
	at := e.At.UnixMilli()
	switch e.Kind {
	case outbox.RegistrationChanged:
		return json.Marshal(activation{
			Type: "ACTIVATION", ActivationID: e.Registration, ApplicationID: e.App, UserID: e.User,
			Status: e.Text("status"), BlockedReason: e.Text("blockedReason"), Timestamp: at,
		})
	case outbox.OperationCreated, outbox.OperationFinished:
		o := operation{
			Type: "OPERATION", OperationID: e.Operation, Applications: []string{e.App}, UserID: e.User,
			OperationType: e.Text("name"), Status: e.Text("status"), ExternalID: e.Text("externalId"), Timestamp: at,
		}
		if o.Status == "" && e.Kind == outbox.OperationCreated {
			o.Status = "PENDING"
		}
		if o.Status == "" {
			o.Status = statuses[e.Text("result")]
		}
		if o.Status == "" {
			return nil, fmt.Errorf("callback: no status for result %q", e.Text("result"))
		}
		return json.Marshal(o)
	}
	return nil, fmt.Errorf("callback: no callback for %q", e.Kind)
}
