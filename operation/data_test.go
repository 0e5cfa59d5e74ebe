package operation

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestParseData(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Data{
		"A2":  {Version: 'A', Template: 2},
		"B99": {Version: 'B', Template: 99},
		"A0*": {Version: 'A', Fields: []Field{{}}},
		"A1*A100CZK*Q238400856/0300**D20170629*NUtility Bill Payment - 05/2017": {Version: 'A', Template: 1, Fields: []Field{
			{'A', "100CZK"},
			{'Q', "238400856/0300"},
			{},
			{'D', "20170629"},
			{'N', "Utility Bill Payment - 05/2017"},
		}},
		`A1*A1492.50EUR*ICZ2730300000001165254011,AIRACZPP`: {Version: 'A', Template: 1, Fields: []Field{
			{'A', "1492.50EUR"},
			{'I', "CZ2730300000001165254011,AIRACZPP"},
		}},
		`A0*Ta\*b\\c\nd*Zlater`: {Version: 'A', Fields: []Field{{'T', "a*b\\c\nd"}, {'Z', "later"}}},
		`A0*T*R/VS1/SS/KS`:      {Version: 'A', Fields: []Field{{'T', ""}, {'R', "/VS1/SS/KS"}}},
	} {
		got, err := ParseData(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		require.Equal(t, text, got.String())
	}
}

func TestParseDataRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "A", "1", "a1", "A100", "A01", "A1 ", "Ä1", "A-1", "A1*1", "A1*a", "A1* ",
		"A1*A", "A1*ACZK", "A1*A100", "A1*A1,5CZK", "A1*A.5CZK", "A1*A1.CZK", "A1*A1.2.3CZK", "A1*A-1CZK", "A1*A1czk",
		"A1*A${amount}CZK", "A1*I", "A1*Icz27", "A1*ICZ27,", "A1*ICZ27,A,B", "A1*D2017", "A1*D20171301", "A1*D2017013x",
		"A1*N\x00", "A1*N\n", "A1*N\t", "A1*N\x1f", "A1*N\xff", `A1*N\`, `A1*N\x`, `A1*N\\\`,
		"A0*T*T*T*T*T*T", "A0*T" + strings.Repeat("x", MaxData),
	} {
		_, err := ParseData(text)
		require.ErrorIs(t, err, ErrData, "%q", text)
	}
}

// What reads is written back as it was, so that a phone and we mean the same.
func FuzzParseData(f *testing.F) {
	for _, s := range []string{"A2", `A1*A100CZK*ICZ27,B**D20180425*Nx\*\\\n`, "A0*T*T", "A1*", `A1*\`, "A9*Z\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseData(s)
		if err != nil {
			require.ErrorIs(t, err, ErrData)
			return
		}
		require.Equal(t, s, d.String())
		require.LessOrEqual(t, len(d.Fields), MaxFields)
		require.Len(t, form(d, Text{}).Attributes, strings.Count(s, "*")-escaped(s)-empty(d))
	})
}

func escaped(s string) (n int) {
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			if i++; s[i] == '*' {
				n++
			}
		}
	}
	return n
}

func empty(d Data) (n int) {
	for _, f := range d.Fields {
		if f.Type == 0 {
			n++
		}
	}
	return n
}

func TestPatternFillsOnce(t *testing.T) {
	t.Parallel()
	p, err := parseDataPattern("A1*A${amount}${currency}*N${note}$ 5 $${note}")
	require.NoError(t, err)
	got, missing := p.fill(map[string]string{"amount": "100", "currency": "EUR", "note": "a*b\\\n${amount}", "other": "x"}, escape)
	require.Empty(t, missing)
	require.Equal(t, `A1*A100EUR*Na\*b\\\n${amount}$ 5 $a\*b\\\n${amount}`, got)

	_, missing = p.fill(map[string]string{"note": ""}, escape)
	require.Equal(t, []string{"amount", "currency"}, missing)
}

func TestPatternRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"${", "a${b", "${}", "${a b}", "${a${b}}", "${ä}", "${" + strings.Repeat("a", 65) + "}"} {
		_, err := parsePattern(s)
		require.Error(t, err, s)
	}
	for _, s := range []string{"", "${version}1", "A${n}", "A1${x}*N", "a1", "A1*N\t", "A1*N\n", "A1N*"} {
		_, err := parseDataPattern(s)
		require.Error(t, err, s)
	}
}

// No value of a parameter reaches out of its field.
func FuzzFill(f *testing.F) {
	f.Add("a*b")
	f.Add("\\")
	f.Add("x\ny")
	f.Add("${other}")
	p, err := parseDataPattern("A0*N${note}*T${other}")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, value string) {
		text, missing := p.fill(map[string]string{"note": value, "other": "end"}, escape)
		require.Empty(t, missing)
		d, err := ParseData(text)
		if !utf8.ValidString(value) || !printable(value) || len(text) > MaxData {
			require.ErrorIs(t, err, ErrData)
			return
		}
		require.NoError(t, err)
		require.Equal(t, []Field{{'N', value}, {'T', "end"}}, d.Fields)
	})
}

func TestForm(t *testing.T) {
	t.Parallel()
	d, err := ParseData(`A1*A1492.50EUR*ICZ27,AIRACZPP*R/VS1*D20180425*NLunch\nand more`)
	require.NoError(t, err)
	words := Text{Title: "Payment", Message: "Please", Labels: map[string]string{"operation.note": "Poznámka"}}
	require.Equal(t, Form{Title: "Payment", Message: "Please", Attributes: []Attribute{
		{Type: "AMOUNT", ID: "operation.amount", Label: "Amount", Value: "1492.50", Currency: "EUR"},
		{Type: "KEY_VALUE", ID: "operation.account", Label: "Counter account", Value: "CZ27, AIRACZPP"},
		{Type: "KEY_VALUE", ID: "operation.reference", Label: "Payment reference", Value: "/VS1"},
		{Type: "KEY_VALUE", ID: "operation.date", Label: "Due date", Value: "2018-04-25"},
		{Type: "NOTE", ID: "operation.note", Label: "Poznámka", Value: "Lunch\nand more"},
	}}, form(d, words))

	d, err = ParseData("A0*Tone**Q1*Q2*Xnew")
	require.NoError(t, err)
	require.Equal(t, []Attribute{
		{Type: "KEY_VALUE", ID: "operation.text1", Label: "Attribute 1", Value: "one"},
		{Type: "KEY_VALUE", ID: "operation.account", Label: "Account", Value: "1"},
		{Type: "KEY_VALUE", ID: "operation.account2", Label: "Account", Value: "2"},
		{Type: "KEY_VALUE", ID: "operation.text2", Label: "Attribute 2", Value: "new"},
	}, form(d, Text{}).Attributes)
}
