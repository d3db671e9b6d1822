package configs

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
)

// ErrNoKey means a key that a file has not.
var ErrNoKey = errors.New("there is no such key")

// ExplainAgent writes what a key of an agent's file means, or with no key what all of them do; now is
// the configuration whose values are told, nil: none. A block tells what is below it, and the end of a
// key ("reader.port", "wait") is enough. ErrNoKey.
func ExplainAgent(w io.Writer, key string, now *Agent) error {
	var settings []Setting
	if now != nil {
		settings = now.settings
	}
	return explain(w, keysOf(reflect.TypeFor[Agent]()), key, settings)
}

// ExplainCloud is ExplainAgent for the cloud's file.
func ExplainCloud(w io.Writer, key string, now *Cloud) error {
	var settings []Setting
	if now != nil {
		settings = now.settings
	}
	return explain(w, keysOf(reflect.TypeFor[Cloud]()), key, settings)
}

var index = regexp.MustCompile(`\.[0-9]+|\[[0-9]*\]`)

// bare is a key without the numbers of lanes.
func bare(key string) string { return index.ReplaceAllString(key, "") }

func explain(w io.Writer, keys []Key, key string, settings []Setting) error {
	wanted, found := bare(key), false
	var all []string
	var b strings.Builder
	every(keys, "", func(path string, k Key) {
		p := bare(path)
		all = append(all, k.Name)
		below := strings.HasPrefix(p, wanted+".") || strings.Contains(p, "."+wanted+".")
		if wanted == "" || p == wanted || strings.HasSuffix(p, "."+wanted) || below {
			found = true
			k.explain(&b, path, settings)
		}
	})
	if !found {
		if n, ok := near(wanted[strings.LastIndexByte(wanted, '.')+1:], all); ok {
			return fmt.Errorf("%s: %w; did you mean %q?", key, ErrNoKey, n)
		}
		return fmt.Errorf("%s: %w", key, ErrNoKey)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (k Key) explain(b *strings.Builder, path string, settings []Setting) {
	fmt.Fprintf(b, "%s\n  %s\n", path, strings.Join(wrap(comments()[k.field], 76), "\n  "))
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(b, "  %-12s %s\n", name, text)
		}
	}
	for _, s := range settings {
		if bare(s.Key) != bare(path) {
			continue
		}
		from := s.Place.String()
		if s.Layer == Default {
			from = "the default"
		}
		name := "now"
		if strings.Contains(path, "[]") {
			name = s.Key + " ="
		}
		line(name, fmt.Sprintf("%s  (%s)", s.Text, from))
	}
	if k.Need {
		line("default", "none, it must be there")
	} else {
		line("default", k.Default)
	}
	switch {
	case k.kind == isDuration || k.kind == isSize:
		line("range", k.Least+" to "+k.Most)
	case k.kind == isBool:
		line("one of", "true, false")
	case len(k.One) > 0:
		line("one of", strings.Join(k.One, ", "))
	case k.Says != "":
		line("want", k.Says)
	}
	if k.Like != "" {
		line("example", k.Like)
	}
	if k.leaf() {
		others := variable(strings.ReplaceAll(path, "[]", ".0"))
		if k.Flag != "" {
			others += ", " + variable(k.Flag) + "; flag --" + k.Flag
		}
		line("environment", others)
	}
	b.WriteString("\n")
}

// wrap breaks text into lines of at most so many characters.
func wrap(text string, most int) []string {
	lines := []string{""}
	for _, word := range strings.Fields(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len(*last)+1+len(word) > most:
			lines = append(lines, word)
		default:
			*last += " " + word
		}
	}
	return lines
}
