package configs

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/viper"
)

// Layer is where a value came from, weakest first.
type Layer string

// Layers.
const (
	Default     Layer = "default"
	File        Layer = "file"
	Environment Layer = "environment"
	CommandLine Layer = "flag"
)

// Setting is a value and where it came from.
type Setting struct {
	Key   string `json:"key"` // lanes.0.reader.port
	Text  string `json:"value"`
	Layer Layer  `json:"layer"`
	Place Place  `json:"place"` // Name "default" for a default
}

// Origin remembers where each value came from.
type Origin struct {
	name     string
	lines    []string
	settings []Setting
	blocks   map[string]Place
}

// Settings are all values, in the order of the file's description.
func (o Origin) Settings() []Setting { return o.settings }

// Changes are the keys that differ from an earlier configuration.
func (o Origin) Changes(since Origin) []string {
	text := map[string]string{}
	for _, s := range since.settings {
		text[s.Key] = s.Text
	}
	var out []string
	for _, s := range o.settings {
		if old, had := text[s.Key]; !had || old != s.Text {
			out = append(out, s.Key)
		}
		delete(text, s.Key)
	}
	for _, s := range since.settings {
		if _, gone := text[s.Key]; gone {
			out = append(out, s.Key)
		}
	}
	return out
}

// Refuse is the problem of a value that the reader could not see to be wrong, at its place.
func (o Origin) Refuse(key, what, instead string) Problem {
	p := Problem{Place: Place{Name: o.name}, Key: key, What: what, Instead: instead}
	for _, s := range o.settings {
		if s.Key == key && s.Layer != Default {
			p.Place = s.Place
			return p.excerpt(o.lines, utf8.RuneCountInString(s.Text))
		}
	}
	// A default has no line: its block has.
	for path := key; path != ""; {
		i := strings.LastIndexByte(path, '.')
		path = path[:max(i, 0)]
		if at, ok := o.blocks[path]; ok && path != "" {
			p.Place = at
			return p.excerpt(o.lines, 1)
		}
	}
	return p
}

// loader puts the layers together and fills a struct.
type loader struct {
	file   *file
	layers *viper.Viper
	env    map[string]string // the variable that says a path's value
	above  map[string]bool   // paths that environment or flags say something below
	origin Origin
}

func load(name string, data []byte, env []string, flags []Flag, into any) *loader {
	v := reflect.ValueOf(into).Elem()
	keys := keysOf(v.Type())
	f := newFile(name, keys)
	f.read(data)
	// A key is one word to viper: with "." it would split them, and lose some.
	l := &loader{file: f, layers: viper.NewWithOptions(viper.KeyDelimiter("::")), env: map[string]string{}, above: map[string]bool{}}
	l.origin = Origin{name: f.name, lines: f.lines, blocks: f.blocks}
	fromFile := make(map[string]any, len(f.values))
	for path, g := range f.values {
		fromFile[path] = g
	}
	// It copies a map of ours, which holds no map: there is nothing to go wrong.
	if err := l.layers.MergeConfigMap(fromFile); err != nil {
		panic(err)
	}
	if f.unread { // all else would be missing
		return l
	}
	l.upper(keys, "", "", env, flags)
	l.fill(v, keys, "", Place{f.name, 1, 1})
	return l
}

// variableOf is a value of the environment, as viper takes one that can be set and read.
type variableOf struct{ name, text string }

func (v variableOf) HasChanged() bool    { return true }
func (v variableOf) Name() string        { return v.name }
func (v variableOf) ValueString() string { return v.text }
func (v variableOf) ValueType() string   { return "string" }

// upper adds environment and flags. A flag means lane 0: whoever has more writes them into the file.
func (l *loader) upper(keys []Key, path, alias string, env []string, flags []Flag) {
	for _, k := range keys {
		at := join(path, k.Name)
		switch {
		case k.kind == isList:
			for i := range max(l.file.counts[at], 1) {
				l.upper(k.keys, fmt.Sprintf("%s.%d", at, i), alias+strconv.Itoa(i), env, flags)
			}
		case !k.leaf():
			l.upper(k.keys, at, alias, env, flags)
		default:
			flag := ""
			if strings.Trim(alias, "0") == "" {
				flag = k.Flag
			}
			l.leafAbove(at, flag, env, flags)
		}
	}
}

func (l *loader) leafAbove(at, flag string, env []string, flags []Flag) {
	said := false
	if name, text, ok := lookup(env, variable(at), flag); ok {
		// Viper reads the process's environment itself, but only that: a test needs one of its own.
		if err := l.layers.BindFlagValue(at, variableOf{name, text}); err != nil {
			panic(err) // of nil only
		}
		l.env[at], said = name, true
	}
	if i := slices.IndexFunc(flags, func(f Flag) bool { return flag != "" && f.Name == flag }); i >= 0 {
		l.layers.Set(at, given{text: flags[i].Text, place: Place{Name: "--" + flag}, layer: CommandLine})
		said = true
	}
	for said && at != "" {
		l.above[at] = true
		at = at[:max(strings.LastIndexByte(at, '.'), 0)]
	}
}

// lookup finds a variable that is not empty: NAME= is how a service's environment file says nothing.
func lookup(env []string, name, flag string) (string, string, bool) {
	names := []string{name}
	if flag != "" {
		names = append(names, variable(flag))
	}
	for _, n := range names {
		for _, e := range slices.Backward(env) {
			if text, ok := strings.CutPrefix(e, n+"="); ok && text != "" {
				return n, text, true
			}
		}
	}
	return "", "", false
}

// get is what the highest layer says.
func (l *loader) get(at string, k Key) (given, bool) {
	if k.Default != "" {
		l.layers.SetDefault(at, given{text: k.Default, place: Place{Name: "default"}, layer: Default})
	}
	switch v := l.layers.Get(at).(type) {
	case given:
		return l.split(v, k), true
	case string:
		return l.split(given{text: v, place: Place{Name: "environment " + l.env[at]}, layer: Environment}, k), true
	}
	return given{}, false
}

// split makes a list of what came as one text.
func (l *loader) split(g given, k Key) given {
	if k.kind == isTexts && g.layer != File {
		for _, t := range strings.FieldsFunc(g.text, func(r rune) bool { return r == ',' || r == ' ' }) {
			g.list = append(g.list, given{text: t, place: g.place, layer: g.layer})
		}
	}
	return g
}

// fill reads a struct's values; where is the place of its block.
func (l *loader) fill(v reflect.Value, keys []Key, path string, where Place) {
	for _, k := range keys {
		at := join(path, k.Name)
		if l.file.broken[at] && !l.above[at] {
			continue
		}
		here, there := l.file.blocks[at]
		if !there {
			here = where
		}
		field := v.Field(k.index)
		switch k.kind {
		case isBlock:
			l.fill(field, k.keys, at, here)
		case isOption:
			if there || l.above[at] {
				field.Set(reflect.New(field.Type().Elem()))
				l.fill(field.Elem(), k.keys, at, here)
			} else if k.Need {
				l.missing(k, at, where)
			}
		case isList:
			n := l.file.counts[at]
			if l.above[at] {
				n = max(n, 1)
			}
			if n == 0 && k.Need {
				l.missing(k, at, here)
			}
			field.Set(reflect.MakeSlice(field.Type(), n, n))
			for i := range n {
				part := fmt.Sprintf("%s.%d", at, i)
				if l.file.broken[part] {
					continue
				}
				start, ok := l.file.blocks[part]
				if !ok {
					start = here
				}
				l.fill(field.Index(i), k.keys, part, start)
			}
		default:
			l.leaf(field, k, at, where)
		}
	}
}

func (l *loader) leaf(field reflect.Value, k Key, at string, where Place) {
	g, ok := l.get(at, k)
	if !ok {
		if k.Need {
			l.missing(k, at, where)
		}
		return
	}
	text := g.text
	if k.kind == isTexts {
		var all []string
		for _, part := range g.list {
			if x := l.value(k, at, part); x != nil {
				all = append(all, x.(string))
			}
		}
		field.Set(reflect.ValueOf(all))
		text = strings.Join(all, " ")
	} else if x := l.value(k, at, g); x != nil {
		field.Set(reflect.ValueOf(x))
	}
	l.origin.settings = append(l.origin.settings, Setting{Key: at, Text: text, Layer: g.layer, Place: g.place})
}

// value reads one text, or tells what is wrong with it.
func (l *loader) value(k Key, at string, g given) any {
	x, w := k.value(g)
	if w == nil {
		return x
	}
	p := Problem{Place: g.place, Key: at, What: w.what, Instead: w.instead}
	if !w.hide {
		p = p.excerpt(l.file.lines, utf8.RuneCountInString(g.text))
	}
	l.add(p)
	return nil
}

func (l *loader) missing(k Key, at string, where Place) {
	if l.file.meant[at] {
		return
	}
	p := Problem{Place: where, Key: at, What: "is missing", Instead: fmt.Sprintf("write \"%s: %s\"", k.Name, k.Like)}
	if !k.leaf() {
		p.Instead = fmt.Sprintf("add a block \"%s:\" with %s", k.Name, strings.Join(names(k.keys), ", "))
		if k.kind == isList {
			p.Instead = fmt.Sprintf("add \"%s:\" and below it a part that begins with \"- \", with %s", k.Name, strings.Join(names(k.keys), ", "))
		}
	}
	if where.Line > 1 || where.Column > 1 {
		p = p.excerpt(l.file.lines, 1)
	}
	l.add(p)
}

func (l *loader) add(ps ...Problem) { l.file.problems = append(l.file.problems, ps...) }

func (l *loader) clean() bool { return len(l.file.problems) == 0 }

// err is everything that is wrong, in the order of the file, then what is in no file.
func (l *loader) err() error {
	if l.clean() {
		return nil
	}
	ps := slices.Clone(l.file.problems)
	slices.SortStableFunc(ps, func(a, b Problem) int {
		none := func(p Problem) int {
			if p.Line == 0 {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(none(a), none(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return Errors(ps[:min(len(ps), mostProblems)])
}
