package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"coinop/agent"
	"coinop/hardware/mdb"
	"coinop/hardware/vivopay"
	"coinop/hardware/watchdog"
	"coinop/protocol"
	"coinop/protocol/card"
	"coinop/protocol/code"
	"coinop/protocol/money"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const long = `Run sells at one vending machine until it is stopped (Ctrl-C, SIGTERM).

It needs four things:
  the identity   a folder that the cloud wrote when this device was added:
                 device.key, device.crt, root.crt, cloud.json
  the cloud      its address; TLS, outgoing connections only
  the machine    the tty of a Qibixx MDB adapter
  the reader     the tty of an ID TECH ViVOpay card reader

Take the names under /dev/serial/by-id: those under /dev/ttyUSB change when a
cable is moved. Cables may be pulled and put back, and the cloud may be away:
the agent says so, sells no more, and goes on by itself.

Everything it promised is in --data. It may lose its power at any moment; after
the next start it finishes what was open.

All of it can stand in a file, --config; on SIGHUP or a change it is read again,
and the log says what needs a restart. coinop-agent config check FILE checks it.

Each flag can be given in the environment: --scale-factor is
COINOP_SCALE_FACTOR. A flag goes before the environment, that before the file.

A disk that is full, read-only, failing or spoiled does not end it: it says so,
sells nothing, and goes on by itself; coinop-agent status shows what to do.

It ends with 0 when it was stopped, and with 2 and a reason when something must
be mended first (64: the flags). Let a service manager start it again.`

const example = `  coinop-agent run --identity /etc/coinop/identity --data /var/lib/coinop \
    --cloud cloud.example.com:8883 \
    --vmc /dev/serial/by-id/usb-Qibixx_MDB-HAT_0-if00 \
    --reader /dev/serial/by-id/usb-ID_TECH_VP3300_0-if00

  coinop-agent run --config /etc/coinop/agent.yaml`

type options struct {
	file                               string
	identity, data, cloud, vmc, reader string
	printer, dex                       string
	dexEvery                           time.Duration
	currency                           string
	scale, decimals                    int
	wait, vend, order, telemetry       time.Duration
	log, ready                         string
}

func newRoot(env []string) *cobra.Command {
	root := &cobra.Command{
		Use: "coinop-agent", Short: "Coinop's agent: sells at an unattended point of sale",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit{exitUsage, err} })
	root.AddCommand(newRun(env), newConfig(env), newReceipt(env), newDEX(env), newCash(env), newTamper(env), newStatus(env), newDoctor(env), newExplain(), newSetup(env), newSimulate(), newSupport(env), newTest(env), newJournal(env), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "coinop-agent %s, protocol %d\n", version, protocol.Version)
			return err
		},
	})
	return root
}

func newRun(env []string) *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "run", Short: "Sell until stopped", Long: long, Example: example, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fromEnvironment(c.Flags(), lookup(env), "config"); err != nil {
				return err
			}
			if o.file != "" {
				return o.runFile(c, env)
			}
			if err := fromEnvironment(c.Flags(), lookup(env)); err != nil {
				return err
			}
			return o.run(c)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.file, "config", "", "configuration `file`; what else is given here goes before it. coinop-agent config explain says what it holds")
	f.StringVar(&o.identity, "identity", "", "`folder` of this device's identity (required)")
	f.StringVar(&o.data, "data", "", "`folder` of the journal; made when missing (required)")
	f.StringVar(&o.cloud, "cloud", "", "`host:port` of the cloud (required)")
	f.StringVar(&o.vmc, "vmc", "", "`tty` of the vending machine's adapter (required)")
	f.StringVar(&o.reader, "reader", "", "`tty` of the card reader (required)")
	f.StringVar(&o.printer, "printer", "", "`tty` of a receipt printer, or /dev/usb/lp0; without it receipts are only kept")
	f.StringVar(&o.dex, "dex", "", "`tty` of the machine's DEX port; without it its own books are not read")
	f.DurationVar(&o.dexEvery, "dex-every", 24*time.Hour, "how often they are, when nobody buys")
	f.StringVar(&o.currency, "currency", "EUR", "ISO 4217 `code` that the machine's prices are in")
	f.IntVar(&o.scale, "scale-factor", 1, "MDB scaling factor of the machine, 1 to 255")
	f.IntVar(&o.decimals, "decimals", -1, "MDB decimal places of the machine, 0 to 5; -1: the currency's own")
	f.DurationVar(&o.wait, "wait", 10*time.Second, "longest wait for the bank, 5s to 28s")
	f.DurationVar(&o.vend, "vend-timeout", 60*time.Second, "longest wait for the machine to say how a vend ended, 2s to 10m")
	f.DurationVar(&o.order, "order-timeout", 60*time.Second, "longest wait for a card, 5s to 10m; the machine gives up on its own after about 24s")
	f.DurationVar(&o.telemetry, "telemetry", time.Minute, "how often metrics go to the cloud, traces and log ten times as often; 0: never")
	f.StringVar(&o.log, "log", "text", "form of the log on stderr: text or json")
	f.StringVar(&o.ready, "ready-file", "", "`file` that appears when the agent runs and goes when it ends; it holds the process id")
	return c
}

func variable(flag string) string {
	return "COINOP_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment gives every flag that was not set its variable, if there is one; with names only those.
func fromEnvironment(f *pflag.FlagSet, env func(string) (string, bool), only ...string) error {
	var errs []error
	f.VisitAll(func(flag *pflag.Flag) {
		name := variable(flag.Name)
		text, ok := env(name)
		if !ok || flag.Changed || flag.Name == "help" || (len(only) > 0 && !slices.Contains(only, flag.Name)) {
			return
		}
		if err := f.Set(flag.Name, text); err != nil {
			errs = append(errs, fmt.Errorf("environment %s=%q: %w", name, text, err))
		}
	})
	if len(errs) > 0 {
		return exit{exitUsage, errors.Join(errs...)}
	}
	return nil
}

func (o options) run(c *cobra.Command) error {
	cfg, err := o.config(c.ErrOrStderr())
	if err != nil {
		return err
	}
	return o.agent(c.Context(), cfg)
}

// afterVariable tells the next process what ended this one.
const afterVariable = "COINOP_AGENT_AFTER"

// agent runs it, with the ready file.
func (o options) agent(ctx context.Context, cfg agent.Config) error {
	service, err := watchdog.Systemd(os.Getenv)
	if err != nil {
		cfg.Log.Warn("the service manager hears nothing of us", "error", err)
	} else if service != nil {
		// Ready is who lives: with a disk that does not work we wait for it, and a restart would not mend it.
		cfg.Watchdogs = append(cfg.Watchdogs, agent.WatchdogConfig{Name: "systemd", Open: func() (agent.Watchdog, error) { return service, service.Ready() }})
	}
	if o.ready != "" {
		cfg.Ready = func() {
			if err := appear(o.ready); err != nil {
				cfg.Log.Error("ready file not written", "error", err)
			}
		}
		defer func() { _ = os.Remove(o.ready) }()
	}
	cfg.After = code.Code(os.Getenv(afterVariable))
	err = agent.Run(ctx, cfg)
	if again, ok := errors.AsType[*agent.Again](err); ok {
		return exit{exitAgain, errors.Join(err, os.Setenv(afterVariable, string(again.After)))}
	}
	return err
}

// appear writes a file that is whole from its first moment on.
func appear(path string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(tmp, "%d\n", os.Getpid())
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

// config checks the options and says all that is wrong with them at once.
func (o options) config(stderr io.Writer) (agent.Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, r := range []struct{ flag, value string }{
		{"identity", o.identity}, {"data", o.data}, {"cloud", o.cloud}, {"vmc", o.vmc}, {"reader", o.reader},
	} {
		if r.value == "" {
			bad("--%s is missing; coinop-agent run --help has an example", r.flag)
		}
	}
	currency, err := money.CurrencyOf(o.currency)
	if err != nil {
		bad("--currency: %w", err)
	}
	scale, errScale := o.scaleOf(currency)
	if errScale != nil && err == nil { // of no currency it says nothing
		bad("%w", errScale)
	}
	span := func(flag string, d, least, most time.Duration) uint32 {
		if d < least || d > most || d%time.Millisecond != 0 {
			bad("--%s %v: want %v to %v", flag, d, least, most)
		}
		return uint32(min(d.Milliseconds(), math.MaxInt32)) //nolint:gosec // checked
	}
	policy := protocol.Policy{
		Version: 1, Currency: currency,
		// 5 s is the least a bank needs; 28 s is what MDB leaves of 30.
		WaitMS:  span("wait", o.wait, 5*time.Second, 28*time.Second),
		VendMS:  span("vend-timeout", o.vend, 2*time.Second, 10*time.Minute),
		OrderMS: span("order-timeout", o.order, 5*time.Second, 10*time.Minute),
	}
	var handler slog.Handler
	switch o.log {
	case "text":
		handler = slog.NewTextHandler(stderr, nil)
	case "json":
		handler = slog.NewJSONHandler(stderr, nil)
	default:
		bad("--log %q: want text or json", o.log)
	}
	if o.telemetry != 0 && (o.telemetry < 100*time.Millisecond || o.telemetry > time.Hour) {
		bad("--telemetry %v: want 100ms to 1h, or 0 for none", o.telemetry)
	}
	if o.dexEvery < 10*time.Second || o.dexEvery > 7*24*time.Hour {
		bad("--dex-every %v: want 10s to 168h", o.dexEvery)
	}
	if err := errors.Join(errs...); err != nil {
		return agent.Config{}, exit{exitUsage, err}
	}
	id, err := agent.LoadIdentity(o.identity)
	if err != nil {
		return agent.Config{}, fmt.Errorf("--identity: %w", err)
	}
	lane := agent.LaneConfig{
		Flow: protocol.SelectionFirst, Bus: protocol.BusMDB,
		Vending: agent.MDB(mdb.PortQibixx, o.vmc, scale), Readers: []agent.ReaderConfig{{New: agent.ViVOpay(vivopay.Config{Path: o.reader, Currency: currency})}},
	}
	if o.dex != "" {
		lane.Audit, lane.AuditEvery = agent.DEX(o.dex), o.dexEvery
	}
	if o.printer != "" {
		lane.Printer = agent.ESCPOS(o.printer)
	}
	return agent.Config{
		Identity: id, Data: o.data, Cloud: o.cloud, Policy: policy, Software: version, Lanes: []agent.LaneConfig{lane}, Telemetry: o.telemetry,
		Log: slog.New(card.LogHandler(handler)),
	}, nil
}

// scaleOf is what --scale-factor and --decimals say.
func (o options) scaleOf(c money.Currency) (mdb.Scale, error) {
	if o.decimals == -1 {
		o.decimals = c.Exponent()
	}
	if o.decimals < 0 || o.decimals > 5 || o.scale < 1 || o.scale > 255 {
		return mdb.Scale{}, fmt.Errorf("--scale-factor %d --decimals %d: want 1 to 255 and 0 to 5, as the machine's manual says for MDB", o.scale, o.decimals)
	}
	s := mdb.Scale{Currency: c, Factor: uint8(o.scale), Decimals: uint8(o.decimals)} //nolint:gosec // checked
	if err := s.Check(); err != nil {
		return s, fmt.Errorf("--scale-factor, --decimals: %w", err)
	}
	return s, nil
}

// version is the commit this binary was built from; the Makefile sets it.
var version = "dev"
