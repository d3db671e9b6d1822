package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"coinop/hardware/probe"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newSetup(env []string) *cobra.Command {
	var ports, terminals []string
	var out string
	var k known
	var asJSON, force bool
	c := &cobra.Command{
		Use: "setup", Short: "Find the devices of this machine, and write the configuration", Args: cobra.NoArgs,
		Long: `Setup looks at the ports of this machine and asks at each what stands there; it
names what it found, how sure it is, and why not where nobody answered. With
--out it writes the configuration, and asks for what it cannot find out: at most
three questions, none when the flags say it. What hangs at the relays of a board
no port says: the file has examples, for orders over HTTP; look at them. Stop
the agent first: a port that it has cannot be asked.

Nothing that is asked moves money or goods, or resets a device:

  serial lines   it is listened first, for a machine's own MDB bus; then, in this
                 order: MDB-RS232 (its changer's SETUP), RS232-MDB (a sum), ESC/POS
                 (status), ViVOpay (serial number), PN532 (firmware), Qibixx
                 (version), Modbus (relays are read), MDB (a changer's and a
                 reader's SETUP), DEX (ENQ)
  hidraw         ViVOpay (serial number), of ID TECH's devices alone; others are
                 named by the kernel
  keyboards      nothing: they are named by the kernel
  I2C            PN532 (a read, then its firmware), where --port names the bus
  pins           nothing: the kernel's names for them
  pcscd          the names of its readers
  network        ZVT (status), where --terminal names it

It ends with 0, or with 1 when something about the wiring does not fit.`,
		Example: `  coinop-agent setup
  coinop-agent setup --out /etc/coinop/agent.yaml
  coinop-agent setup --out agent.yaml --terminal 192.168.1.40:20007
  coinop-agent setup --port '/tmp/snack/*' --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fromEnvironment(c.Flags(), lookup(env), "identity", "data", "cloud", "currency"); err != nil {
				return err
			}
			paths, err := portsOf(ports)
			if err != nil {
				return err
			}
			found := identify(c.Context(), paths, len(ports) > 0)
			if len(ports) == 0 {
				found = append(found, readers(c.Context())...)
			}
			for _, t := range terminals {
				found = append(found, probe.Terminal(c.Context(), t))
			}
			ask := asker{in: bufio.NewReader(c.InOrStdin()), out: c.ErrOrStderr(), can: out != "" && isTerminal(c.InOrStdin()), left: 3}
			if !hasPart(found, "reader", "terminal") {
				if t := ask.answer("", "Address of a payment terminal in the network, host:port; none with Enter", ""); t != "" {
					found = append(found, probe.Terminal(c.Context(), t))
				}
			}
			w := judge(found)
			if !asJSON {
				if err := printFound(c.OutOrStdout(), w); err != nil {
					return err
				}
			}
			if out != "" {
				k.data = cmp.Or(k.data, "/var/lib/coinop")
				k.cloud = ask.answer(k.cloud, "Address of the cloud, host:port", "cloud.example.com:8883")
				if w.board() {
					k.price = ask.answer(k.price, "Price of what an outlet of the relay board gives", "3.00")
				}
				k.currency = ask.answer(k.currency, "Currency of the prices", "EUR")
				k.identity = ask.answer(k.identity, "Folder of this device's identity", "/etc/coinop/identity")
				if err := w.write(out, force, k, env); err != nil {
					return err
				}
				if !asJSON {
					_, _ = fmt.Fprintf(c.OutOrStdout(), "\nwrote %s, and it is good; next: coinop-agent doctor --config %s\n", out, out)
				}
			}
			if asJSON {
				if err := json.NewEncoder(c.OutOrStdout()).Encode(w); err != nil {
					return err
				}
			}
			if len(w.Problems) > 0 {
				return exit{code: exitProblem}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringArrayVar(&ports, "port", nil, "`path` or pattern of ports to look at; may be repeated; else all of /dev")
	f.StringArrayVar(&terminals, "terminal", nil, "`host:port` of a payment terminal in the network; may be repeated")
	f.StringVar(&out, "out", "", "`file` of the configuration to write")
	f.BoolVar(&force, "force", false, "write over it")
	f.StringVar(&k.identity, "identity", "", "`folder` of this device's identity")
	f.StringVar(&k.data, "data", "", "`folder` of the journal (/var/lib/coinop)")
	f.StringVar(&k.cloud, "cloud", "", "`host:port` of the cloud")
	f.StringVar(&k.currency, "currency", "", "ISO 4217 `code` of the prices")
	f.StringVar(&k.price, "price", "", "`amount` that each outlet of a relay board costs (3.00); the file says it for each")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// portsOf are the device files that patterns name.
func portsOf(patterns []string) ([]string, error) {
	if len(patterns) == 0 {
		return probe.Ports("/dev"), nil
	}
	var out []string
	for _, p := range patterns {
		paths, err := filepath.Glob(p)
		if err != nil {
			return nil, usage("--port %s: %v", p, err)
		}
		if len(paths) == 0 && !strings.ContainsAny(p, "*?[") {
			paths = []string{p} // that it is not there is said of it
		}
		for _, path := range paths {
			if st, err := os.Stat(path); err != nil || st.Mode()&(fs.ModeDevice|fs.ModeSocket) != 0 {
				out = append(out, path)
			}
		}
	}
	return out, nil
}

// atOnce is how many ports are asked side by side.
const atOnce = 8

// identify asks at paths; named says that a person gave them.
func identify(ctx context.Context, paths []string, named bool) []probe.Found {
	ask := probe.Identify
	if named {
		ask = probe.Named
	}
	found := make([]probe.Found, len(paths))
	room := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, path := range paths {
		all.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			found[i] = ask(ctx, path)
		})
	}
	all.Wait()
	return found
}

// readers are pcscd's.
func readers(ctx context.Context) []probe.Found {
	all, err := probe.Readers(ctx, "")
	if err != nil {
		return []probe.Found{{Path: "pcscd", Aside: true, WhyNot: []string{err.Error()}}}
	}
	return all
}

func hasPart(found []probe.Found, parts ...string) bool {
	return slices.ContainsFunc(found, func(f probe.Found) bool { return slices.Contains(parts, f.Part) })
}

// asker asks who sits before a terminal; nobody else.
type asker struct {
	in   *bufio.Reader
	out  io.Writer
	can  bool
	left int // questions
}

func (a *asker) answer(given, question, other string) string {
	if given != "" || !a.can || a.left == 0 {
		return cmp.Or(given, other)
	}
	a.left--
	_, _ = fmt.Fprintf(a.out, "%s [%s]: ", question, other)
	line, _ := a.in.ReadString('\n')
	return cmp.Or(strings.TrimSpace(line), other)
}

func isTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS) //nolint:gosec // a descriptor
	return err == nil
}
