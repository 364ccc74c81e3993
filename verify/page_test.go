package verify

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
)

// holdToSchema checks v against the part of JSON Schema that our schema uses.
func holdToSchema(t *testing.T, at string, schema map[string]any, v any) {
	t.Helper()
	kind := schema["type"].(string)
	switch x := v.(type) {
	case map[string]any:
		require.Equal(t, "object", kind, at)
		properties := schema["properties"].(map[string]any)
		for _, key := range schema["required"].([]any) {
			require.Contains(t, x, key, at)
		}
		for key, value := range x {
			require.Contains(t, properties, key, at)
			holdToSchema(t, at+"."+key, properties[key].(map[string]any), value)
		}
	case []any:
		require.Equal(t, "array", kind, at)
		for i, value := range x {
			holdToSchema(t, fmt.Sprintf("%s[%d]", at, i), schema["items"].(map[string]any), value)
		}
	case string:
		require.Equal(t, "string", kind, at)
		if enum, ok := schema["enum"].([]any); ok {
			require.Contains(t, enum, v, at)
		}
	case float64:
		require.Contains(t, []string{"number", "integer"}, kind, at)
		require.True(t, kind == "number" || x == math.Trunc(x), "%s is %v", at, x)
	default:
		t.Fatalf("%s is a %T", at, v)
	}
}

func toJSON(t *testing.T, r *Report) map[string]any {
	t.Helper()
	data, err := json.Marshal(r)
	require.NoError(t, err)
	var v map[string]any
	require.NoError(t, json.Unmarshal(data, &v))
	return v
}

func TestReportFitsItsSchema(t *testing.T) {
	data, err := os.ReadFile("../spec/verify-report.schema.json")
	require.NoError(t, err)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(data, &schema))

	source, path := makeFile(t, 1, convert.Options{Head: "int8"})
	_, other := makeFile(t, 2, convert.Options{})
	good := check(t, path, Options{Run: true, Source: source, Tensors: true})
	require.True(t, good.OK())
	holdToSchema(t, "good", schema, toJSON(t, good))
	bad := check(t, path, Options{Compare: other, AllowedSigners: "none", Tensors: true})
	require.False(t, bad.OK())
	holdToSchema(t, "bad", schema, toJSON(t, bad))
	require.NoError(t, os.Truncate(path, 1000))
	holdToSchema(t, "short", schema, toJSON(t, check(t, path, Options{})))
}

// element is a part of a parsed page.
type element struct {
	name     string
	attr     map[string]string
	text     string
	children []*element
}

// parsePage parses a page as XML: every element of ours is closed.
func parsePage(t *testing.T, page []byte) *element {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(page))
	d.Strict, d.Entity = false, xml.HTMLEntity
	root := &element{}
	open := []*element{root}
	for {
		token, err := d.Token()
		if err == io.EOF {
			require.Len(t, open, 1, "an element is not closed")
			return root
		}
		require.NoError(t, err)
		top := open[len(open)-1]
		switch x := token.(type) {
		case xml.StartElement:
			e := &element{name: x.Name.Local, attr: map[string]string{}}
			for _, a := range x.Attr {
				e.attr[a.Name.Local] = a.Value
			}
			top.children = append(top.children, e)
			open = append(open, e)
		case xml.EndElement:
			require.Equal(t, top.name, x.Name.Local)
			open = open[:len(open)-1]
		case xml.CharData:
			top.text += string(x)
		}
	}
}

// all returns the elements of a name below e, those of a class where one is given.
func (e *element) all(name, class string) (out []*element) {
	for _, c := range e.children {
		if c.name == name && (class == "" || slices.Contains(strings.Fields(c.attr["class"]), class)) {
			out = append(out, c)
		}
		out = append(out, c.all(name, class)...)
	}
	return out
}

// TestPageShowsTheReport: the numbers of the page are those of the JSON, and it
// asks for nothing from elsewhere.
func TestPageShowsTheReport(t *testing.T) {
	source, path := makeFile(t, 1, convert.Options{Rule: "absmean-row"})
	r := check(t, path, Options{Source: source, Tensors: true})
	var b bytes.Buffer
	require.NoError(t, r.WriteHTML(&b))
	for _, never := range []string{"http:", "https:", "<script", "url(", "@import", "ZgotmplZ", "<img", "<link"} {
		require.NotContains(t, b.String(), never)
	}
	root := parsePage(t, b.Bytes())
	tables := root.all("table", "tensors")
	require.Len(t, tables, 1)
	rows := tables[0].all("tbody", "")[0].all("tr", "")
	require.Len(t, rows, len(r.Tensors))
	number := func(e *element, class string) float64 {
		found := e.all("data", class)
		require.Len(t, found, 1, "%s of %s", class, e.attr["id"])
		v, err := strconv.ParseFloat(found[0].attr["value"], 64)
		require.NoError(t, err)
		return v
	}
	for i, x := range toJSON(t, r)["tensors"].([]any) {
		want, row := x.(map[string]any), rows[i]
		require.Equal(t, want["name"], row.attr["id"])
		require.Equal(t, want["bytes"], number(row, "bytes"))
		if trits, ok := want["trits"].(map[string]any); ok {
			for _, key := range []string{"minus", "zero", "plus"} {
				require.Equal(t, trits[key], number(row, key))
			}
			require.Equal(t, want["error"].(map[string]any)["relative"], number(row, "error_relative"))
			scales := want["scales"].(map[string]any)
			for _, key := range []string{"min", "median", "max"} {
				require.Equal(t, float32(scales[key].(float64)), float32(number(row, "scale_"+key)))
			}
		} else {
			require.Equal(t, want["values"].(map[string]any)["rms"], number(row, "rms"))
		}
	}
	require.Equal(t, float64(r.Card.Parameters), number(root, "parameters"))
	require.Equal(t, r.Card.BitsPerWeight, number(root, "bits_per_ternary_weight"))
	require.Len(t, root.all("table", "checks")[0].all("tbody", "")[0].children, len(r.Checks))
	require.Len(t, root.all("figure", ""), 3*7, "shares, scales and error of seven projections")

	require.NoError(t, os.Truncate(path, 1000))
	r = check(t, path, Options{Tensors: true})
	b.Reset()
	require.NoError(t, r.WriteHTML(&b))
	root = parsePage(t, b.Bytes())
	require.Equal(t, float64(1), number(root, "findings"))
	require.Contains(t, root.all("div", "finding")[0].all("p", "")[0].text, "file length")
}

func TestPageEscapes(t *testing.T) {
	var b bytes.Buffer
	r := &Report{Path: `"><script>alert(1)</script>`, Findings: []Finding{{Check: "payload", Message: "<img src=x>"}}}
	require.NoError(t, r.WriteHTML(&b))
	require.NotContains(t, b.String(), "<script")
	require.NotContains(t, b.String(), "<img")
}
