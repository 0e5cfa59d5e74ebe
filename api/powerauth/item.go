package powerauth

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/signet-hsm/signet/api/internal/rest"
	"github.com/signet-hsm/signet/operation"
	"github.com/signet-hsm/signet/signature"
)

// mobileTime is how phones read a time: with seconds and a zone without a colon.
const mobileTime = "2006-01-02T15:04:05-0700"

// mobileItem is an operation as the mobile token SDKs read it.
type mobileItem struct {
	ID      string          `json:"id"`
	Name    string          `json:"name"`
	Data    string          `json:"data"`
	Status  operation.State `json:"status"`
	Created string          `json:"operationCreated"`
	Expires string          `json:"operationExpires"`
	Allowed allowed         `json:"allowedSignatureType"`
	Form    mobileForm      `json:"formData"`
	UI      ui              `json:"ui"`
}

type allowed struct {
	Type     string   `json:"type"` // "1FA" or "2FA"
	Variants []string `json:"variants"`
}

type mobileForm struct {
	Title      string            `json:"title"`
	Message    string            `json:"message"`
	Attributes []mobileAttribute `json:"attributes"`
}

// mobileAttribute: each type has its value under another name.
type mobileAttribute struct {
	Type     string         `json:"type"`
	ID       string         `json:"id"`
	Label    string         `json:"label"`
	Amount   jsontext.Value `json:"amount,omitzero"` // the digits that were signed, not a float of them
	Currency string         `json:"currency,omitzero"`
	Value    string         `json:"value,omitzero"`
	Note     string         `json:"note,omitzero"`
}

type ui struct {
	FlipButtons bool    `json:"flipButtons"`
	BlockOnCall bool    `json:"blockApprovalOnCall"`
	Before      *screen `json:"preApprovalScreen,omitzero"`
}

type screen struct {
	Type    string `json:"type"`
	Heading string `json:"heading"`
	Message string `json:"message"`
}

// timed answers with the server's time, which phones count the expiry down by.
func (h *handlers) timed(v any) rest.Response {
	return rest.OK(struct {
		Status string `json:"status"`
		Now    string `json:"currentTimestamp"`
		Object any    `json:"responseObject"`
	}{"OK", time.UnixMilli(h.registrations.ServerTime()).UTC().Format(mobileTime), v})
}

func items(list []operation.Item) []mobileItem {
	out := make([]mobileItem, len(list))
	for i, op := range list {
		out[i] = itemOf(op)
	}
	return out
}

func itemOf(op operation.Item) mobileItem {
	m := mobileItem{
		ID: op.ID, Name: op.Name, Data: op.Data, Status: op.State,
		Created: op.CreatedAt.Format(mobileTime), Expires: op.ExpiresAt.Format(mobileTime),
		Allowed: allowed{Type: "1FA", Variants: []string{}},
		Form:    mobileForm{Title: op.Form.Title, Message: op.Form.Message, Attributes: make([]mobileAttribute, len(op.Form.Attributes))},
		UI:      ui{FlipButtons: op.FlipButtons, BlockOnCall: op.BlockOnCall},
	}
	for _, f := range op.Types {
		if f != signature.Possession {
			m.Allowed.Type = "2FA"
		}
		m.Allowed.Variants = append(m.Allowed.Variants, f.String())
	}
	for i, a := range op.Form.Attributes {
		m.Form.Attributes[i] = attributeOf(a)
	}
	switch { // a phone shows one screen: the one that it can not go on without
	case op.Proximity:
		m.UI.Before = &screen{"QR_SCAN", "Scan the code", "Scan the code on the screen in front of you."}
	case op.FraudWarning:
		m.UI.Before = &screen{"WARNING", "Beware of fraud", "Approve only what you have begun yourself."}
	}
	return m
}

func attributeOf(a operation.Attribute) mobileAttribute {
	m := mobileAttribute{Type: a.Type, ID: a.ID, Label: a.Label}
	switch a.Type {
	case operation.AttributeAmount:
		m.Currency = a.Currency
		if m.Amount = jsontext.Value(a.Value); !m.Amount.IsValid() { // "007" is no JSON number
			m.Amount, _ = jsontext.AppendQuote(nil, a.Value)
		}
	case operation.AttributeNote:
		m.Note = a.Value
	default:
		m.Value = a.Value
	}
	return m
}
