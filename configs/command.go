package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Program is what the config command has to know of a program that runs with a file.
type Program[T any] struct {
	Name    string // coinop-agent
	Noun    string // agent: the file is /etc/coinop/agent.yaml
	Env     []string
	Load    func(path string, env []string, flags ...Flag) (T, error)
	Explain func(w io.Writer, key string, now *T) error
	Schema  func() []byte
	// Check finds what this package cannot know; it touches nothing. nil: nothing more.
	Check func(T) error
	// Here looks at this machine too, as running does, and HereText says at what. nil: there is no --here.
	Here     func(T) error
	HereText string
}

// Command is the program's "config" with check, explain and schema.
func (p Program[T]) Command() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check and explain the configuration file"}
	c.AddCommand(p.check(), p.explain(), &cobra.Command{
		Use: "schema", Short: "Print the file's JSON Schema, for editors", Args: cobra.NoArgs,
		Long: p.say(`Schema prints the JSON Schema of the file. Saved as NOUN.schema.json beside it,
and with this as the file's first line, an editor completes and underlines:

  # yaml-language-server: $schema=NOUN.schema.json`),
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := c.OutOrStdout().Write(p.Schema())
			return err
		},
	})
	return c
}

func (p Program[T]) say(text string) string {
	return strings.NewReplacer("PROGRAM", p.Name, "NOUN", p.Noun).Replace(text)
}

func (p Program[T]) check() *cobra.Command {
	var asJSON, here bool
	c := &cobra.Command{
		Use: "check FILE", Short: "Say everything that is wrong with a file", Args: cobra.ExactArgs(1),
		Long: `Check reads the file as running would, with the environment above it, and says
all that is wrong with it: where, what, and what to write instead. It touches
nothing. It ends with 0 when the program would take the file, and with 1
otherwise.` + p.HereText,
		Example: p.say("  PROGRAM config check /etc/coinop/NOUN.yaml"),
		RunE: func(c *cobra.Command, args []string) error {
			t, err := p.Load(args[0], p.Env)
			if err == nil && p.Check != nil {
				err = p.Check(t)
			}
			if err == nil && here {
				err = p.Here(t)
			}
			return report(c.OutOrStdout(), args[0], asJSON, err)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: file, ok, problems")
	if p.Here != nil {
		c.Flags().BoolVar(&here, "here", false, "also look at what the file names on this machine")
	}
	return c
}

// report prints what a check found, and returns an error when it found any.
func report(w io.Writer, file string, asJSON bool, err error) error {
	problems, ok := errors.AsType[Errors](err)
	if err != nil && !ok {
		return err
	}
	switch {
	case asJSON:
		if problems == nil {
			problems = Errors{}
		}
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(map[string]any{"file": file, "ok": len(problems) == 0, "problems": problems}); err != nil {
			return err
		}
	case len(problems) > 0:
		_, _ = fmt.Fprintln(w, problems)
	default:
		_, _ = fmt.Fprintf(w, "%s is good\n", file)
	}
	if len(problems) == 0 {
		return nil
	}
	return Found{file, len(problems)}
}

// Found is the error of a check that found problems, and has printed them.
type Found struct {
	File     string
	Problems int
}

func (f Found) Error() string {
	if f.Problems == 1 {
		return f.File + ": 1 problem"
	}
	return fmt.Sprintf("%s: %d problems", f.File, f.Problems)
}

func (p Program[T]) explain() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "explain [KEY]", Short: "Say what a key means, what it is now and why", Args: cobra.MaximumNArgs(1),
		Long: `Explain says what a key means, its default, its range and its names in the
environment and on the command line. With --config it says what it is now, and
where that was written: default, file:line:column or environment. Without KEY
it explains all of them; the end of a key is enough.`,
		Example: p.say("  PROGRAM config explain log.level --config /etc/coinop/NOUN.yaml"),
		RunE: func(c *cobra.Command, args []string) error {
			var now *T
			if file != "" {
				t, err := p.Load(file, p.Env)
				if err != nil {
					return err
				}
				now = &t
			}
			key := ""
			if len(args) > 0 {
				key = args[0]
			}
			return p.Explain(c.OutOrStdout(), key, now)
		},
	}
	c.Flags().StringVar(&file, "config", "", "`file` whose values are told")
	return c
}
