package apitest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/stretchr/testify/require"
)

// Contract is a dialect's openapi.yaml.
type Contract struct {
	tb  testing.TB
	doc *openapi3.T
}

// LoadContract reads internal/spec/openapi.yaml of the dialect under test, and adds
// the operations of extensions.yaml beside it, if there is one. The
// document is not compiled as a whole: one pattern of it has a look-behind, which
// no Go expression can express; patterns that a test reaches are compiled then.
func LoadContract(tb testing.TB) *Contract {
	tb.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join("internal", "spec", "openapi.yaml"))
	require.NoError(tb, err)
	c := &Contract{tb, doc}
	ours := filepath.Join("internal", "spec", "extensions.yaml")
	if _, err := os.Stat(ours); err == nil {
		c.extend(ours)
	}
	return c
}

// extend adds the operations of another document, which may refer to this one.
func (c *Contract) extend(file string) {
	c.tb.Helper()
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = true
	more, err := loader.LoadFromFile(file)
	require.NoError(c.tb, err)
	for name, scheme := range more.Components.SecuritySchemes {
		if _, have := c.doc.Components.SecuritySchemes[name]; !have {
			c.doc.Components.SecuritySchemes[name] = scheme
		}
	}
	for path, item := range more.Paths.Map() {
		have := c.doc.Paths.Value(path)
		if have == nil {
			c.doc.Paths.Set(path, item)
			continue
		}
		for method, op := range item.Operations() {
			require.Nil(c.tb, have.GetOperation(method), "%s: %s %s stands in the contract already", file, method, path)
			have.SetOperation(method, op)
		}
	}
}

// Operations lists the contract's operations whose id starts with a prefix.
func (c *Contract) Operations(prefixes ...string) []Operation {
	var ops []Operation
	for path, item := range c.doc.Paths.Map() {
		for method, op := range item.Operations() {
			if id, _ := op.Extensions["x-inventory"].(string); hasPrefix(id, prefixes) {
				ops = append(ops, Operation{ID: id, Method: method, Path: path})
			}
		}
	}
	return ops
}

// ErrorCodes lists the codes that a schema of errors knows, responseObject.code.
func (c *Contract) ErrorCodes(schema string) (codes []string) {
	c.tb.Helper()
	object := c.doc.Components.Schemas[schema].Value.Properties["responseObject"].Value
	for _, v := range object.Properties["code"].Value.Enum {
		codes = append(codes, fmt.Sprint(v))
	}
	require.NotEmpty(c.tb, codes)
	return codes
}

var listed = regexp.MustCompile(`Codes: ([A-Z0-9_, \n]+)`)

// Codes lists the business errors that the contract documents for an operation, in
// the description of its 400 answer.
func (c *Contract) Codes(op Operation) []string {
	c.tb.Helper()
	r := c.doc.Paths.Value(op.Path).GetOperation(op.Method).Responses.Value("400")
	if r == nil {
		return nil
	}
	m := listed.FindStringSubmatch(*r.Value.Description)
	require.NotNil(c.tb, m, op.ID)
	return strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' || r == '\n' })
}

// input is what openapi3filter wants to know about a request of an operation.
func (c *Contract) input(op Operation, r *http.Request, body []byte) *openapi3filter.RequestValidationInput {
	c.tb.Helper()
	item := c.doc.Paths.Value(op.Path)
	require.NotNil(c.tb, item, "%s: the contract has no %s", op.ID, op.Path)
	operation := item.GetOperation(op.Method)
	require.NotNil(c.tb, operation, "%s: the contract has no %s %s", op.ID, op.Method, op.Path)
	clone := r.Clone(r.Context())
	clone.Body = io.NopCloser(bytes.NewReader(body))
	clone.ContentLength = int64(len(body))
	return &openapi3filter.RequestValidationInput{
		Request:    clone,
		PathParams: pathParams(op.Path, r.URL.Path),
		Route:      &routers.Route{Spec: c.doc, Path: op.Path, PathItem: item, Method: op.Method, Operation: operation},
		Options:    &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true},
	}
}

var wildcard = regexp.MustCompile(`\{([^}]+)\}`)

func pathParams(template, path string) map[string]string {
	params := map[string]string{}
	have := strings.Split(path, "/")
	for i, part := range strings.Split(template, "/") {
		if m := wildcard.FindStringSubmatch(part); m != nil && i < len(have) {
			params[m[1]] = have[i]
		}
	}
	return params
}

// Request tells whether the contract accepts a request.
func (c *Contract) Request(op Operation, r *http.Request, body []byte) error {
	c.tb.Helper()
	return openapi3filter.ValidateRequest(r.Context(), c.input(op, r, body))
}

// outside are statuses of the frame that no contract lists.
var outside = map[int]bool{http.StatusMethodNotAllowed: true, http.StatusRequestEntityTooLarge: true, http.StatusUnsupportedMediaType: true}

// RequireResponse fails when the contract does not have such an answer.
func (c *Contract) RequireResponse(op Operation, r *http.Request, status int, header http.Header, body []byte) {
	c.tb.Helper()
	if outside[status] {
		return
	}
	in := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: c.input(op, r, nil),
		Status:                 status, Header: header,
		Body:    io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	require.NoError(c.tb, openapi3filter.ValidateResponse(r.Context(), in), "%s %d: %s", op.ID, status, body)
}

// RequireSameContract compares the committed openapi.yaml with the one that the
// project was given, when that folder is there.
func RequireSameContract(tb testing.TB, name string) {
	tb.Helper()
	given, err := os.ReadFile(filepath.Join(Root(tb), "..", "shared", "contracts", name))
	if os.IsNotExist(err) {
		tb.Skipf("no ../shared/contracts/%s to compare with", name)
	}
	require.NoError(tb, err)
	ours, err := os.ReadFile(filepath.Join("internal", "spec", "openapi.yaml"))
	require.NoError(tb, err)
	require.Equal(tb, string(given), string(ours))
}

// RequireCoverage holds the route table, docs/coverage.md and the contract
// together: the same operations are in the table as the document marks as served,
// and each row of the document is an operation of the contract and the other way
// round.
func RequireCoverage(tb testing.TB, c *Contract, routes []Operation, prefixes ...string) {
	tb.Helper()
	contract := map[string]Operation{}
	for _, op := range c.Operations(prefixes...) {
		contract[op.ID] = op
	}
	var served []Operation
	listed := map[string]bool{}
	for _, op := range Coverage(tb, prefixes...) {
		require.False(tb, listed[op.ID], "docs/coverage.md lists %s twice", op.ID)
		listed[op.ID] = true
		want, ok := contract[op.ID]
		require.True(tb, ok, "docs/coverage.md: the contract has no %s", op.ID)
		require.Equal(tb, want, Operation{ID: op.ID, Method: op.Method, Path: op.Path})
		if op.Served {
			served = append(served, want)
		}
	}
	for id := range contract {
		require.True(tb, listed[id], "docs/coverage.md lacks %s", id)
	}
	require.ElementsMatch(tb, served, routes)
}
