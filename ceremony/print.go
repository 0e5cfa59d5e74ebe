package ceremony

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed transcript.html.tmpl
var printText string

// form is in each page; a layout that changes gets another number.
const form = `content="signet ceremony, form 2"`

var printForm = template.Must(template.New(PrintFile).Parse(printText))

// row is one named value of the printed form.
type row struct{ Name, Value string }

// event is one line of the transcript, for people, or several calls that followed
// one another.
type event struct {
	Seq                int
	Time, Event, State string
	Rows               []row
	Grid               *grid
	Pre                string // a certificate or CRL in PEM
}

type section struct {
	Title  string
	Events []event
}

type printed struct {
	Name, Begun, Hash, Words, Last, LastWords string

	Rehearsal  bool
	Begin      []row
	Plan       string
	People     []row
	Sections   []section
	Signatures []event
}

// Print writes the printable form of a transcript that VerifyTranscript accepts: one
// HTML page that needs nothing else, made of the very lines and of nothing beside
// them, so that the same transcript gives the same page.
func Print(out io.Writer, transcript io.Reader) error {
	list, err := readTranscript(transcript)
	if err != nil {
		return err
	}
	last, err := verifyEntries(list)
	if err != nil {
		return err
	}
	begin := &list[0]
	plan, _ := begin.Detail["plan"].(map[string]any)
	p := printed{
		Name: fmt.Sprint(plan["name"]), Begun: begin.Time.Format(time.DateTime) + " UTC", Hash: fmt.Sprint(begin.Detail["planSha256"]), Words: fmt.Sprint(begin.Detail["planWords"]), Last: last,
		Rehearsal: begin.Detail["rehearsal"] == true, Plan: fmt.Sprint(begin.Detail["planText"]),
	}
	hash, err := hex.DecodeString(last)
	if err != nil || len(hash) != sha256.Size {
		return fmt.Errorf("%w: the last line's hash", ErrTranscript)
	}
	if p.LastWords, err = Words([sha256.Size]byte(hash)); err != nil {
		return err
	}
	for _, k := range []string{"tool", "token", "module", "moduleSha256"} {
		for _, r := range rows(k, begin.Detail[k]) {
			if title, ok := titles[r.Name]; ok {
				r.Name = title
			}
			p.Begin = append(p.Begin, r)
		}
	}
	people, err := peopleOf(begin)
	if err != nil {
		return err
	}
	for _, q := range people {
		p.People = append(p.People, row{q.Name, q.Role})
	}
	for i := range list[1:] {
		e := &list[i+1]
		v := event{Seq: e.Seq, Time: e.Time.Format(time.DateTime), Event: e.Event, State: e.Result}
		if e.Event == eventCall {
			p.call(e, v)
			continue
		}
		for _, k := range sortedKeys(e.Detail) {
			switch {
			case k == "certificate" && e.Event == eventCertificate:
				v.Pre, v.Rows = certificateText(e.Detail[k], v.Rows)
			case k == "crl" || k == "request":
				if der, err := bytesOf(e.Detail[k]); err == nil {
					v.Pre = string(pem.EncodeToMemory(&pem.Block{Type: map[string]string{"crl": "X509 CRL", "request": "CERTIFICATE REQUEST"}[k], Bytes: der}))
				}
			case k == "attributes":
				if v.Grid = attributeGrid(e.Detail[k]); v.Grid == nil {
					v.Rows = append(v.Rows, rows(k, e.Detail[k])...)
				}
			default:
				v.Rows = append(v.Rows, rows(k, e.Detail[k])...)
			}
		}
		switch {
		case e.Event == eventSignature:
			p.Signatures = append(p.Signatures, v)
			continue
		case e.Event == eventStep:
			p.Sections = append(p.Sections, section{Title: fmt.Sprintf("Step %d: %v", e.Step, e.Detail["kind"])})
			continue
		case e.Event == eventResume:
			p.Sections = append(p.Sections, section{Title: "Taken up again"})
		case e.Event == eventEnd:
			p.Sections = append(p.Sections, section{Title: "End"})
		}
		s := p.section()
		s.Events = append(s.Events, v)
	}
	return printForm.Execute(out, p)
}

// titles are what the values of the first line are called on paper.
var titles = map[string]string{
	"tool.module": "Program", "tool.version": "Program, version", "tool.executableSha256": "Program, SHA-256", "tool.go": "Program, built with",
	"module": "PKCS#11 module", "moduleSha256": "PKCS#11 module, SHA-256",
}

// section is the one that is being filled.
func (p *printed) section() *section {
	if len(p.Sections) == 0 {
		p.Sections = append(p.Sections, section{Title: "Login"})
	}
	return &p.Sections[len(p.Sections)-1]
}

// call shows a call of the module, with those right before it.
func (p *printed) call(e *entry, v event) {
	s := p.section()
	if n := len(s.Events); n == 0 || s.Events[n-1].Event != eventCall || s.Events[n-1].State != v.State {
		v.Grid = callGrid()
		s.Events = append(s.Events, v)
	}
	s.Events[len(s.Events)-1].Grid.add(e)
}

func sortedKeys(m map[string]any) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

// rows flattens a value.
func rows(name string, v any) (list []row) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			list = append(list, rows(name+"."+k, v[k])...)
		}
	case []any:
		for i, e := range v {
			list = append(list, rows(fmt.Sprintf("%s[%d]", name, i+1), e)...)
		}
	case nil:
	case string:
		list = append(list, row{name, v})
	default:
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte(err.Error())
		}
		list = append(list, row{name, string(text)})
	}
	return list
}

func certificateText(v any, list []row) (string, []row) {
	der, err := bytesOf(v)
	if err != nil {
		return "", list
	}
	if c, err := x509.ParseCertificate(der); err == nil {
		list = append(list,
			row{"subject", c.Subject.String()}, row{"issuer", c.Issuer.String()}, row{"serial (hex)", fmt.Sprintf("%032x", c.SerialNumber)},
			row{"validity", c.NotBefore.UTC().Format("2006-01-02 15:04:05") + " to " + c.NotAfter.UTC().Format("2006-01-02 15:04:05") + " UTC"},
			row{"key", c.PublicKeyAlgorithm.String()}, row{"signature", c.SignatureAlgorithm.String()})
	}
	return strings.TrimSpace(string(pemOf(der))), list
}

// print writes the printable form beside the transcript.
func (w *work) print() error {
	content, err := w.dir.read(TranscriptFile)
	if err != nil {
		return err
	}
	var page bytes.Buffer
	if err := Print(&page, bytes.NewReader(content)); err != nil {
		return err
	}
	return w.dir.write(PrintFile, page.Bytes(), w.resumed)
}

// VerifyFolder is VerifyTranscript for the folder of a ceremony: the files that the
// transcript lists must be there as it lists them, and the printed form must be the
// transcript's.
func VerifyFolder(dir string) (last string, err error) {
	content, err := os.ReadFile(filepath.Join(dir, TranscriptFile))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	if last, err = VerifyTranscript(bytes.NewReader(content)); err != nil {
		return "", err
	}
	list, err := readTranscript(bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	for i := range list {
		if e := &list[i]; e.Event == eventFile {
			name, _ := e.Detail["name"].(string)
			if name != filepath.Base(name) || fileHash(filepath.Join(dir, name)) != e.Detail["sha256"] {
				return "", fmt.Errorf("%w: the file %q is not the one of line %d", ErrTranscript, name, e.Seq)
			}
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, PrintFile))
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	var again bytes.Buffer
	if err := Print(&again, bytes.NewReader(content)); err != nil {
		return "", err
	}
	if !bytes.Equal(page, again.Bytes()) && !bytes.Contains(page, []byte(form)) {
		return "", fmt.Errorf("%w: %s was printed by another version of this program: let that one judge it, or print it anew and compare", ErrTranscript, PrintFile)
	}
	if !bytes.Equal(page, again.Bytes()) {
		return "", fmt.Errorf("%w: %s does not say what it says", ErrTranscript, PrintFile)
	}
	return last, nil
}
