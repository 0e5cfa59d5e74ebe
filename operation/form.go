package operation

import (
	"strconv"
	"strings"
)

// Form is what a phone shows of an operation, in one language.
type Form struct {
	Title, Message string
	Attributes     []Attribute
}

// The attribute types that operation data leads to; the mobile token API knows
// more, for whoever has more to show than what is signed.
const (
	AttributeAmount   = "AMOUNT"    // Value is the number, Currency its code
	AttributeKeyValue = "KEY_VALUE" // Value
	AttributeNote     = "NOTE"      // Value
)

// Attribute is one line of a Form. All of it comes from the data that is signed.
type Attribute struct {
	Type     string
	ID       string // "operation.amount"; what Text.Labels goes by
	Label    string
	Value    string // of an amount: decimal digits, perhaps with a dot, to be written as a JSON number
	Currency string // of an amount only
}

// The generic labels, and what a payment (template 1) calls them.
var labels = map[byte][2]string{
	FieldAmount:    {"Amount", "Amount"},
	FieldIBAN:      {"Account", "Counter account"},
	FieldAccount:   {"Account", "Counter account"},
	FieldDate:      {"Date", "Due date"},
	FieldReference: {"Reference", "Payment reference"},
	FieldNote:      {"Note", "Note"},
}

var attributeIDs = map[byte]string{
	FieldAmount: "operation.amount", FieldIBAN: "operation.account", FieldAccount: "operation.account",
	FieldDate: "operation.date", FieldReference: "operation.reference", FieldNote: "operation.note",
}

const templatePayment = 1

// form shows the data's fields in their order; an id that comes again, and each
// text, is numbered: "operation.text1".
func form(d Data, words Text) Form {
	f := Form{Title: words.Title, Message: words.Message, Attributes: []Attribute{}}
	seen := map[string]int{}
	texts := 0
	for _, field := range d.Fields {
		if field.Type == 0 {
			continue
		}
		a := attribute(field)
		if named, ok := labels[field.Type]; ok {
			a.ID, a.Label = attributeIDs[field.Type], named[0]
			if d.Template == templatePayment {
				a.Label = named[1]
			}
			if seen[a.ID]++; seen[a.ID] > 1 {
				a.ID += strconv.Itoa(seen[a.ID])
			}
		} else {
			texts++
			a.ID, a.Label = "operation.text"+strconv.Itoa(texts), "Attribute "+strconv.Itoa(texts)
		}
		if label, ok := words.Labels[a.ID]; ok {
			a.Label = label
		}
		f.Attributes = append(f.Attributes, a)
	}
	return f
}

func attribute(f Field) Attribute {
	a := Attribute{Type: AttributeKeyValue, Value: f.Value}
	switch f.Type {
	case FieldAmount:
		a.Type = AttributeAmount
		a.Value, a.Currency = f.Amount()
	case FieldNote:
		a.Type = AttributeNote
	case FieldDate:
		a.Value = f.Value[:4] + "-" + f.Value[4:6] + "-" + f.Value[6:]
	case FieldIBAN:
		a.Value = strings.Replace(f.Value, ",", ", ", 1)
	}
	return a
}
