package configs

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the schemas anew")

// TestSchema: the committed schemas are what the structs say, every key is described, and a validator
// that is not ours takes the examples and refuses what the reader refuses by form.
func TestSchema(t *testing.T) {
	t.Parallel()
	for name, text := range map[string][]byte{"agent.schema.json": AgentSchema(), "cloud.schema.json": CloudSchema()} {
		if *update {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if golden, err := os.ReadFile(name); err != nil || !bytes.Equal(golden, text) {
			t.Errorf("%s is not what the structs say: go test ./configs -update; %v", name, err)
		}
		// The parts of a list, and the file itself, have none.
		if bytes.Count(text, []byte(`"type"`)) > bytes.Count(text, []byte(`"description"`))+bytes.Count(text, []byte(`"items"`))+1 {
			t.Errorf("%s: a key without a comment", name)
		}
	}
	agent, cloud := compile(t, AgentSchema()), compile(t, CloudSchema())
	validate := func(s *jsonschema.Schema, text []byte) error {
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		return s.Validate(v)
	}
	files, _ := Examples.ReadDir(".")
	for _, f := range files {
		text, _ := Examples.ReadFile(f.Name())
		s, want := agent, "$schema=agent.schema.json\n"
		if f.Name() == "cloud.yaml" {
			s, want = cloud, "$schema=cloud.schema.json\n"
		}
		if err := validate(s, text); err != nil {
			t.Errorf("%s: %v", f.Name(), err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s does not name its schema", f.Name())
		}
	}
	if err := validate(agent, []byte(least)); err != nil {
		t.Error(err)
	}
	for _, more := range []string{
		"tiemout: 1\n", "currency: euro\n", "timeouts: {wait: 10}\n", "timeouts: {wait: 10 sec}\n", "log: {format: xml}\n",
		"    reader:\n", "  - {reader: {}}\n", "  - vending: {scale: 5 ct}\n", "  - vending: {port: ttyUSB0}\n",
	} {
		if validate(agent, []byte(least+more)) == nil {
			t.Errorf("the schema takes %q", more)
		}
		if _, err := ParseAgent("f", []byte(least+more), nil); err == nil {
			t.Errorf("the reader takes %q", more)
		}
	}
}

func compile(t *testing.T, text []byte) *jsonschema.Schema {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("x.json", v); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("x.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestExplain(t *testing.T) {
	t.Parallel()
	a, err := ParseAgent("f", []byte(least+"timeouts: {wait: 11s}\n"), []string{"COINOP_CURRENCY=CHF"})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string][]string{
		"timeouts.wait":       {"timeouts.wait\n  Longest wait for the bank.", "now          11s  (f:6:18)", "default      10s", "range        5s to 28s", "COINOP_TIMEOUTS_WAIT, COINOP_WAIT; flag --wait"},
		"currency":            {"CHF  (environment COINOP_CURRENCY)"},
		"lanes.0.vending":     {"lanes[].vending.port", "lanes.0.vending.port = /dev/v  (f:5:21)", "lanes.0.vending.driver = qibixx  (the default)", "one of       qibixx"},
		"reader.port":         {"lanes[].reader.port", "COINOP_LANES_0_READER_PORT, COINOP_READER; flag --reader"},
		"readers.port":        {"lanes[].readers[].port", "environment  COINOP_LANES_0_READERS_0_PORT\n"},
		"":                    {"identity\n", "log.level\n", "it must be there"},
		"lanes[].reader.port": {"lanes[].reader.port"},
	} {
		var b strings.Builder
		if err := ExplainAgent(&b, key, &a); err != nil {
			t.Errorf("%s: %v", key, err)
		}
		for _, w := range want {
			if !strings.Contains(b.String(), w) {
				t.Errorf("%s: %s\ndoes not say %q", key, b.String(), w)
			}
		}
	}
	if err := ExplainAgent(&strings.Builder{}, "timeouts.wiat", nil); err == nil || err.Error() != `timeouts.wiat: there is no such key; did you mean "wait"?` {
		t.Error(err)
	}
	if err := ExplainCloud(&strings.Builder{}, "late_window", &Cloud{}); err != nil {
		t.Error(err)
	}
}
