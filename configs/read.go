package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// given is a value as somebody wrote it.
type given struct {
	text   string
	quoted bool
	list   []given // of a list of texts
	place  Place
	layer  Layer
}

// file is what a file says: nothing of it has been understood yet but its shape.
type file struct {
	name     string
	top      []Key
	lines    []string
	values   map[string]given // by path: lanes.0.reader.port
	blocks   map[string]Place // that are there
	counts   map[string]int   // of lists
	broken   map[string]bool  // a problem was told already
	meant    map[string]bool  // an unknown key was told to be this one
	unread   bool             // it is no YAML
	problems []Problem
}

func newFile(name string, keys []Key) *file {
	if name == "" {
		name = "configuration"
	}
	return &file{
		name: name, top: keys, values: map[string]given{}, blocks: map[string]Place{}, counts: map[string]int{}, broken: map[string]bool{},
		meant: map[string]bool{},
	}
}

// read takes a file apart, as far as its shape allows.
func (f *file) read(data []byte) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	f.lines = strings.Split(string(data), "\n")
	if !f.plain(data) {
		f.unread = true
		return
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	var root, second yaml.Node
	if err := d.Decode(&root); errors.Is(err, io.EOF) {
		return
	} else if err != nil {
		f.syntax(err)
		return
	}
	if err := d.Decode(&second); err == nil {
		f.tell(&second, "", wrong{what: "a second document begins here", instead: "one file, one configuration: remove --- and what follows"})
	} else if !errors.Is(err, io.EOF) {
		f.syntax(err)
		return
	}
	if len(root.Content) == 1 && root.Content[0].Tag != "!!null" {
		f.block(root.Content[0], "", f.top)
	}
}

// plain finds what YAML would stumble over without saying where, or in words nobody understands.
func (f *file) plain(data []byte) bool {
	at := func(line, column int, what, instead string) {
		f.problems = append(f.problems, Problem{Place: Place{f.name, line, column}, What: what, Instead: instead}.excerpt(f.lines, 1))
	}
	if len(data) > maxFile {
		at(1, 1, "is far too large for a configuration", "check the path")
		return false
	}
	for i, line := range f.lines {
		column, indent := 0, true
		for j, r := range strings.TrimSuffix(line, "\r") {
			column++
			size := 1
			if r == utf8.RuneError {
				_, size = utf8.DecodeRuneInString(line[j:])
			}
			bad := true
			switch {
			case r == utf8.RuneError && size == 1:
				at(i+1, column, "a byte that is not UTF-8", "save the file as UTF-8")
			case r == '\t' && indent:
				at(i+1, column, "a tab", "indent with blanks, two a step")
			case r == '\u00a0' && indent:
				at(i+1, column, "a blank that is none (it came with a copy from a web page)", "type the blanks anew")
			case (r < ' ' && r != '\t') || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == '\ufeff' || r == '\ufffe' || r == '\uffff':
				at(i+1, column, fmt.Sprintf("a character that cannot be seen (%U)", r), "delete it")
			default:
				bad = false
			}
			if bad { // one a line is enough
				break
			}
			indent = indent && (r == ' ')
		}
	}
	return len(f.problems) == 0
}

var (
	yamlLine   = regexp.MustCompile(`line (\d+): (.*)`)
	yamlAlias  = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
	parserSays = regexp.MustCompile(`^did not find expected (key|'-'|',' or|node content|<)`)
)

// yamlWords is what the YAML reader says, and what it means to a person.
var yamlWords = []struct{ says, what, instead string }{
	{"mapping values are not allowed", "a second colon, or this line is too far right", "a value with a colon and a blank goes in quotes; keys of one block begin in the same column"},
	{"did not find expected key", "this line does not begin where its block does", "keys of one block begin in the same column"},
	{"did not find expected '-'", "this line does not begin where its list does", `each part of a list begins with "- " in the same column`},
	{"block sequence entries are not allowed", "a list cannot begin here", `put "- " on a line of its own below the key`},
	{"could not find expected ':'", "a key without its colon", `write "key: value", with a blank after the colon`},
	{"unexpected end of stream", "a quote is not closed", "close it on the same line"},
	{"cannot start any token", "a value cannot begin with this character", "put the value in quotes"},
	{"did not find expected ',' or", "a bracket is not closed, or a comma is missing", "write [a, b] or {key: value, key: value}"},
	{"anchor", "& and * are not understood here", "write the value out"},
}

func (f *file) syntax(err error) {
	f.unread = true
	p := Problem{Place: Place{f.name, 1, 1}, What: strings.TrimPrefix(err.Error(), "yaml: "), Instead: "mend this line first; the rest is checked then"}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.What = m[2]
	}
	if parserSays.MatchString(p.What) { // it counts from 0, the scanner from 1 (yaml v3.0.4, decode.go, fail)
		if p.Line++; !yamlLine.MatchString(err.Error()) {
			p.Line = 1
		}
	}
	if m := yamlAlias.FindStringSubmatch(p.What); m != nil { // has no line
		for i, line := range slices.Backward(f.lines) {
			if strings.Contains(line, "*"+m[1]) {
				p.Line = i + 1
			}
		}
	}
	p.Line = max(min(p.Line, len(f.lines)), 1)
	for _, w := range yamlWords {
		if strings.Contains(p.What, w.says) {
			p.What, p.Instead = w.what, w.instead
			break
		}
	}
	line := []rune(strings.TrimRight(f.lines[p.Line-1], " \r"))
	p.Column = len(line) - len([]rune(strings.TrimLeft(string(line), " "))) + 1
	f.problems = append(f.problems, p.excerpt(f.lines, len(line)))
}

// tell adds a problem at a node.
func (f *file) tell(n *yaml.Node, path string, w wrong) {
	f.broken[path] = true
	p := Problem{Place: f.at(n), Key: path, What: w.what, Instead: w.instead}
	if !w.hide {
		p = p.excerpt(f.lines, utf8.RuneCountInString(n.Value))
	}
	f.problems = append(f.problems, p)
}

func (f *file) at(n *yaml.Node) Place {
	return Place{f.name, max(min(n.Line, len(f.lines)), 1), max(n.Column, 1)}
}

// odd finds what YAML can do and a configuration need not.
func (f *file) odd(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		f.tell(n, path, wrong{what: "& and * are not understood here", instead: "write the value out"})
	case n.Style&yaml.TaggedStyle != 0:
		f.tell(n, path, wrong{what: "begins with !", instead: "put the value in quotes"})
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		f.tell(n, path, wrong{what: "| and > are not understood here", instead: "write the value on one line"})
	default:
		return false
	}
	return true
}

// block reads keys and what they have.
func (f *file) block(n *yaml.Node, path string, keys []Key) {
	if f.odd(n, path) {
		return
	}
	if n.Kind != yaml.MappingNode {
		f.tell(n, path, f.noBlock(n, keys))
		return
	}
	f.blocks[path] = f.at(n)
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := join(path, name.Value)
		if first, twice := seen[name.Value]; twice {
			f.tell(name, at, wrong{what: fmt.Sprintf("stands twice, first in line %d", first), instead: "remove one of the two"})
			continue
		}
		seen[name.Value] = name.Line
		k, ok := find(keys, name.Value)
		if !ok || name.Kind != yaml.ScalarNode {
			f.unknown(name, path, keys)
			continue
		}
		f.entry(name, value, at, k)
	}
}

// noBlock says what to do when there is something else where keys should be.
func (f *file) noBlock(n *yaml.Node, keys []Key) wrong {
	w := wrong{what: "want keys here: " + strings.Join(names(keys), ", "), instead: `write "` + keys[0].Name + `: …" on a line below, two blanks further in`}
	if name, _, ok := strings.Cut(n.Value, ":"); ok && n.Kind == yaml.ScalarNode {
		if k, ok := find(keys, strings.TrimSpace(name)); ok {
			w = wrong{what: "a blank is missing after the colon", instead: "write \"" + k.Name + ": …\""}
		}
	}
	if n.Kind == yaml.SequenceNode {
		w.instead = `remove the "-"`
	}
	return w
}

// entry reads one key's value.
func (f *file) entry(name, n *yaml.Node, path string, k Key) {
	if k.kind == isBlock && n.Tag == "!!null" && n.Kind == yaml.ScalarNode {
		return // everything in it is a comment: its defaults
	}
	if f.odd(n, path) {
		return
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		w := wrong{what: "is empty", instead: "write a value, or remove the line"}
		if !k.leaf() {
			w.instead = fmt.Sprintf("write its keys below it (%s), or remove the line", strings.Join(names(k.keys), ", "))
		}
		f.tell(name, path, w)
		return
	}
	switch k.kind {
	case isBlock, isOption:
		f.block(n, path, k.keys)
		if _, ok := f.blocks[path]; ok { // what is missing in it is told at its key
			f.blocks[path] = f.at(name)
		}
	case isList:
		if n.Kind != yaml.SequenceNode {
			f.tell(name, path, wrong{what: "want a list", instead: `begin each part of it with "- " on a line below`})
			return
		}
		f.many(name, n, path, k)
		for i, part := range n.Content {
			f.block(part, fmt.Sprintf("%s.%d", path, i), k.keys)
		}
	case isTexts:
		if n.Kind != yaml.SequenceNode {
			f.tell(n, path, wrong{what: "want a list", instead: "write [" + k.Like + "]"})
			return
		}
		f.many(name, n, path, k)
		v := given{place: f.at(name), layer: File, list: []given{}}
		for _, part := range n.Content {
			if !f.odd(part, path) && f.single(part, path) {
				v.list = append(v.list, f.given(part))
			}
		}
		f.values[path] = v
	default:
		if f.single(n, path) {
			f.values[path] = f.given(n)
		}
	}
}

func (f *file) many(name, n *yaml.Node, path string, k Key) {
	f.counts[path] = len(n.Content)
	f.blocks[path] = f.at(name)
	if most, _ := strconv.Atoi(k.Most); len(n.Content) > most {
		f.tell(name, path, wrong{what: fmt.Sprintf("has %d parts", len(n.Content)), instead: fmt.Sprintf("%d is the most", most)})
	} else if len(n.Content) == 0 && k.kind == isTexts {
		f.tell(name, path, wrong{what: "is an empty list", instead: "write [" + k.Like + "], or remove the line"})
	}
}

func (f *file) single(n *yaml.Node, path string) bool {
	if n.Kind != yaml.ScalarNode {
		f.tell(n, path, wrong{what: "want one value, not a list or block", instead: "write it on the line of the key"})
		return false
	}
	return true
}

func (f *file) given(n *yaml.Node) given {
	return given{text: n.Value, quoted: n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0, place: f.at(n), layer: File}
}

// unknown says what a key that nobody knows may have meant.
func (f *file) unknown(name *yaml.Node, path string, keys []Key) {
	at := join(path, name.Value)
	w := wrong{what: "unknown key", instead: "keys here: " + strings.Join(names(keys), ", ")}
	switch meant, ok := near(name.Value, names(keys)); {
	case name.Kind != yaml.ScalarNode || name.Value == "" || len(name.Value) > 64:
		at, w = path, wrong{what: "this is no key", instead: `write "key: value"`}
	case name.Value == "<<":
		w = wrong{what: "<< is not understood here", instead: "write the values out"}
	case ok:
		w.instead = fmt.Sprintf("did you mean %q?", meant)
		f.meant[join(path, meant)] = true
	case secretWord.MatchString(name.Value):
		w = wrong{what: "a secret does not belong in this file", instead: "what is secret has files of its own; remove the line", hide: true}
	default:
		every(f.top, "", func(p string, k Key) {
			if !k.second && k.Name == name.Value || (k.Flag != "" && k.Flag == name.Value) {
				w.instead = "did you mean " + p + "?"
			}
		})
	}
	f.tell(name, at, w)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
