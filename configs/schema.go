package configs

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// What a key means is said once, in the comment at its field. commentText is those comments, a line each:
// "Agent.Identity", a tab, the text; TestComments keeps it. An agent has no Go parser to read them with.
//
//go:embed comments.txt
var commentText string

// comments are the comments of types and fields: "Agent", "Agent.Identity".
var comments = sync.OnceValue(func() map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(commentText) {
		name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		out[name] = text
	}
	return out
})

// schema is as much of JSON Schema, draft 2020-12, as our files need.
type schema struct {
	Draft       string     `json:"$schema,omitempty"`
	Title       string     `json:"title,omitempty"`
	Description string     `json:"description,omitempty"`
	Type        any        `json:"type"`
	Enum        []string   `json:"enum,omitempty"`
	Pattern     string     `json:"pattern,omitempty"`
	Default     any        `json:"default,omitempty"`
	Examples    []any      `json:"examples,omitempty"`
	MinItems    int        `json:"minItems,omitempty"`
	MaxItems    int        `json:"maxItems,omitempty"`
	Items       *schema    `json:"items,omitempty"`
	Properties  properties `json:"properties,omitempty"`
	Required    []string   `json:"required,omitempty"`
	Additional  *bool      `json:"additionalProperties,omitempty"`
}

// properties keep the order of the struct: an editor offers them in it.
type properties []property

type property struct {
	name string
	schema
}

func (ps properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, p := range ps {
		b.WriteByte("{,"[min(i, 1)])
		text, err := json.Marshal(p.schema)
		if err != nil {
			return nil, err
		}
		b.WriteString(strconv.Quote(p.name) + ":")
		b.Write(text)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// AgentSchema is the JSON Schema of an agent's file, for editors: committed as agent.schema.json.
func AgentSchema() []byte { return schemaOf(reflect.TypeFor[Agent](), "Coinop agent") }

// CloudSchema is the JSON Schema of the cloud's file.
func CloudSchema() []byte { return schemaOf(reflect.TypeFor[Cloud](), "Coinop cloud") }

func schemaOf(t reflect.Type, title string) []byte {
	s := block(keysOf(t))
	s.Draft, s.Title, s.Description = "https://json-schema.org/draft/2020-12/schema", title, comments()[t.Name()]
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		panic(err) // of types JSON does not know
	}
	return b.Bytes()
}

func block(keys []Key) schema {
	s := schema{Type: "object", Additional: new(bool)}
	for _, k := range keys {
		s.Properties = append(s.Properties, property{k.Name, k.schema()})
		if k.Need {
			s.Required = append(s.Required, k.Name)
		}
	}
	return s
}

const durationPattern = `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`

func (k Key) schema() schema {
	s := schema{Type: "string"}
	if k.Default != "" {
		s.Default = k.Default
	}
	if k.Like != "" && k.leaf() {
		s.Examples = []any{k.Like}
	}
	switch k.kind {
	case isPath:
		s.Pattern = "^/"
	case isPort:
		s.Pattern = "^(auto|/.*)$"
	case isAddress:
		s.Pattern = "^[^@/ ]+:[0-9]{1,5}$"
		if k.Any != "" {
			s.Pattern = "^[^@/ ]*:[0-9]{1,5}$"
		}
	case isCurrency:
		s.Pattern = currencyForm.String()
	case isScale: // without quotes an editor takes it for a number
		s.Type, s.Pattern = []string{"string", "number"}, `^(auto|[0-9]{1,6}(\.[0-9]{1,4})?)$`
	case isAmount:
		s.Type, s.Pattern = []string{"string", "number"}, amountForm.String()
	case isDuration:
		s.Pattern = durationPattern
	case isSize:
		s.Pattern = sizeForm.String()
	case isBool:
		s.Type, s.Default = "boolean", k.Default == "true"
	case isTexts:
		most, _ := strconv.Atoi(k.Most)
		s = schema{Type: "array", MinItems: 1, MaxItems: most, Items: &schema{Type: "string", Pattern: "^(?:" + k.Match + ")$"}}
		s.Default, s.Examples = strings.Fields(k.Default), []any{[]string{k.Like}}
	case isBlock: // may stand there with everything in it a comment
		s = block(k.keys)
		s.Type = []string{"object", "null"}
	case isOption:
		s = block(k.keys)
	case isList:
		most, _ := strconv.Atoi(k.Most)
		items := block(k.keys)
		s = schema{Type: "array", MaxItems: most, Items: &items}
		if k.Need {
			s.MinItems = 1
		}
	default:
		s.Enum = k.One
		if k.Match != "" {
			s.Pattern = "^(?:" + k.Match + ")$"
			if strings.HasPrefix(k.Match, "[0-9]") {
				s.Type = []string{"string", "integer"}
			}
		}
	}
	s.Description = comments()[k.field]
	if k.kind == isDuration || k.kind == isSize {
		s.Description += " From " + k.Least + " to " + k.Most + "."
	}
	return s
}
