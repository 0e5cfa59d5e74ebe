package ceremony

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// grid is a table of the printed form with more than two columns.
type grid struct {
	Head []string
	Rows [][]string
}

// callGrid shows calls that followed one another, one a row.
func callGrid() *grid { return &grid{Head: []string{"Line", "Time", "Call", "Object", "Result"}} }

// add appends a call that the transcript has in a line.
func (g *grid) add(e *entry) {
	row := []string{strconv.Itoa(e.Seq), e.Time.Format(time.TimeOnly), "", "", ""}
	for _, k := range sortedKeys(e.Detail) {
		switch text := fmt.Sprint(e.Detail[k]); k {
		case "call":
			row[2] = text
		case "label":
			row[3] = text
		case "result":
			row[4] += text
		default:
			row[4] += " " + k + " " + text
		}
	}
	g.Rows = append(g.Rows, row)
}

// attributeGrid shows the objects of a key beside one another, as they were read
// back; nil when the value is something else.
func attributeGrid(v any) *grid {
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return nil
	}
	g := &grid{Head: []string{"Attribute"}}
	var names []string
	values := make([]map[string]string, len(list))
	for i, o := range list {
		object, ok := o.(map[string]any)
		if !ok {
			return nil
		}
		g.Head = append(g.Head, fmt.Sprint(object["class"]))
		values[i] = map[string]string{}
		for k, v := range object {
			if inner, ok := v.(map[string]any); ok {
				for name, value := range inner {
					values[i][name] = fmt.Sprint(value)
				}
			} else if k != "class" {
				values[i][k] = fmt.Sprint(v)
			}
		}
		for name := range values[i] {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		row := []string{name}
		for i := range values {
			row = append(row, values[i][name])
		}
		g.Rows = append(g.Rows, row)
	}
	return g
}
