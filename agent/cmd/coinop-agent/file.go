package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"coinop/agent"
	"coinop/configs"
	"coinop/hardware/mdb"
	"coinop/hardware/paper"
	"coinop/hardware/probe"
	"coinop/protocol"
	"coinop/protocol/card"
	"coinop/protocol/money"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// fileOptions is what run needs beside a file.
type fileOptions struct {
	ports func() []string                    // serial ports that are plugged in
	scale func(mdb.Scale) (mdb.Scale, error) // --scale-factor and --decimals over the file's; nil: not given
	level *slog.LevelVar                     // of the log; nil: as the file says
}

// runFile is run with a file: flags and environment lie above it, and it is followed while we run.
func (o options) runFile(c *cobra.Command, env []string) error {
	f := fileOptions{ports: serialPorts, level: new(slog.LevelVar)}
	var flags []configs.Flag
	c.Flags().Visit(func(flag *pflag.Flag) {
		flags = append(flags, configs.Flag{Name: flag.Name, Text: flag.Value.String()})
	})
	// The file says a scale as money; who has the two numbers of the manual at hand may still give them.
	if given(c, env, "scale-factor") || given(c, env, "decimals") {
		if err := fromEnvironment(c.Flags(), lookup(env), "scale-factor", "decimals"); err != nil {
			return err
		}
		f.scale = func(s mdb.Scale) (mdb.Scale, error) { return o.scaleOf(s.Currency) }
	}
	if err := fromEnvironment(c.Flags(), lookup(env), "ready-file"); err != nil {
		return err
	}
	read := func() (configs.Agent, error) {
		a, err := configs.LoadAgent(o.file, env, flags...)
		if err == nil {
			err = checkFile(a)
		}
		return a, err
	}
	a, err := read()
	if err != nil {
		return fmt.Errorf("--config:\n%w", err)
	}
	cfg, err := f.config(a, c.ErrOrStderr())
	if err != nil {
		return fmt.Errorf("--config:\n%w", err)
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	ctx, stop := context.WithCancel(c.Context())
	var follow sync.WaitGroup
	defer follow.Wait()
	defer stop()
	follow.Go(func() {
		configs.Follow(ctx, configs.Following[configs.Agent]{
			Path: o.file, Running: a.Origin, Load: read, Again: hup, Log: cfg.Log,
			Apply: func(a configs.Agent) []string {
				_ = f.level.UnmarshalText([]byte(a.Log.Level))
				return []string{"log.level"}
			},
		})
	})
	return o.agent(ctx, cfg)
}

// config makes what the agent runs with, and says all that is wrong at once.
func (f fileOptions) config(a configs.Agent, stderr io.Writer) (agent.Config, error) {
	scale, err := scales(a)
	if err != nil {
		return agent.Config{}, err
	}
	var problems configs.Errors
	id, err := agent.LoadIdentity(string(a.Identity))
	if err != nil {
		problems = append(problems, a.Refuse("identity", err.Error(), "it is the folder that coinop-cloud device add wrote"))
	}
	level := f.level
	if level == nil {
		level = new(slog.LevelVar)
	}
	_ = level.UnmarshalText([]byte(a.Log.Level)) // one of the four it knows
	var handler slog.Handler = slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})
	if a.Log.Format == "json" {
		handler = slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})
	}
	cfg := agent.Config{
		Identity: id, Data: string(a.Data), Cloud: string(a.Cloud), Software: version,
		Telemetry: telemetryOf(a.Telemetry), Head: a.Receipt.Head, Foot: a.Receipt.Foot, ReceiptQR: a.Receipt.QR == "on",
		Log: slog.New(card.LogHandler(handler)),
		Storage: agent.Storage{
			Low: int64(a.Storage.WarnBelow), Full: int64(a.Storage.StopBelow), Ballast: cmp.Or(int64(a.Storage.Ballast), -1), KeepFor: a.Storage.KeepFor,
		},
		Policy: protocol.Policy{ // the reader keeps the spans within their ranges
			Version: 1, Currency: scale[0].Currency,
			WaitMS:  uint32(a.Timeouts.Wait.Milliseconds()),         //nolint:gosec // up to 28 s
			VendMS:  uint32(a.Timeouts.VendTimeout.Milliseconds()),  //nolint:gosec // up to 10 min
			OrderMS: uint32(a.Timeouts.OrderTimeout.Milliseconds()), //nolint:gosec // up to 10 min
		},
	}
	board, wrong := boardOf(a)
	cfg.Board, problems = board, append(problems, wrong...)
	cfg.Thermometers, cfg.Watchdogs = thermometersOf(a), watchdogsOf(a)
	if a.Screen != nil {
		cfg.Screen = string(a.Screen.Listen)
	}
	port := func(key string, p configs.Port, driver string) string {
		path, what := findPort(p, driver, f.ports)
		if what != "" {
			problems = append(problems, a.Refuse(key, what, "check the cable, or write the path; ls -l /dev/serial/by-id shows what is there"))
		}
		return path
	}
	for i, l := range a.Lanes {
		if f.scale != nil {
			if scale[i], err = f.scale(scale[i]); err != nil {
				return agent.Config{}, err
			}
		}
		lane := agent.LaneConfig{
			Lane: protocol.Lane(i), Flow: protocol.SelectionFirst, Bus: protocol.BusMDB, //nolint:gosec // up to 16
		}
		lane.Language = l.Vending.Language
		if l.Vending.First == "card" {
			lane.Flow = protocol.CardFirst
		}
		if h := string(l.Vending.Hold); h != "" {
			most, err := money.Parse(h, scale[i].Currency)
			if err != nil || most.Minor <= 0 {
				problems = append(problems, a.Refuse(fmt.Sprintf("lanes.%d.vending.hold", i), fmt.Sprintf("%s is no amount of %s that can be held", h, scale[i].Currency), "write it as 5.00"))
			}
			cfg.Policy.MaxHold = most.Minor
		}
		lane.Ports = map[string]string{}
		path := ""
		if l.Vending.Driver != "gpio" {
			path = port(fmt.Sprintf("lanes.%d.vending.port", i), l.Vending.Port, l.Vending.Driver)
		}
		switch l.Vending.Driver {
		case "relay-board", "gpio":
			lane.Vending = agent.Outlets(outletsOf(a, i, scale[i].Currency, path))
			lane.Name, lane.Bus, lane.OwnsMotor = "outlets", protocol.BusNone, true
		default:
			lane.Vending = agent.MDB(portOf[l.Vending.Driver], path, scale[i])
		}
		lane.Ports[cmp.Or(lane.Name, "vmc")] = path
		if p, ps := planOf(a, i, scale[i].Currency); len(ps) > 0 {
			problems = append(problems, ps...)
		} else if len(p) > 0 {
			if cfg.Plan == nil {
				cfg.Plan = agent.Plan{}
			}
			cfg.Plan[lane.Lane] = p
		}
		for n, r := range l.AllReaders() {
			key := fmt.Sprintf("lanes.%d.%s.", i, r.Key)
			keys, what := loopKeysOf(r.Keys)
			if what != "" {
				problems = append(problems, a.Refuse(key+"keys_file", what, "write a line mac KEY into it, and a line for each kind of card: coinop-agent config explain lanes"))
			}
			path := r.Name
			if r.Driver != "pcsc" {
				path = port(key+"port", r.Port, readerPort(r.Reader))
			}
			lane.Readers = append(lane.Readers, agent.ReaderConfig{
				New: readerOf(r.Reader, path, scale[i].Currency, keys), Cards: cardsOf(r.Reader), Unproven: r.Unproven == "taken",
			})
			lane.Ports[agent.ReaderName(n)] = path
		}
		if t := l.Terminal; t != nil && t.Driver == "mdb" {
			path := port(fmt.Sprintf("lanes.%d.terminal.port", i), t.Port, "mdb reader")
			lane.Terminal, lane.CloseEvery = agent.MDBReader(mdb.PortRaw, path, scale[i].Currency, t.Bus == "60"), -1
			lane.Ports["terminal"] = path
		} else if t != nil {
			password, what := passwordOf(t.PasswordFile)
			if what != "" {
				problems = append(problems, a.Refuse(fmt.Sprintf("lanes.%d.terminal.password_file", i), what, "write the six digits into it, or remove the line where the terminal has zeros"))
			}
			lane.Terminal = agent.ZVT(string(t.Address), password, scale[i].Currency, t.Payment == "hold", t.Receipt == "terminal")
			lane.CloseEvery = t.CloseEvery
		}
		if l.Printer != nil {
			problems = append(problems, oneWay(a, i)...)
			path := string(l.Printer.Address)
			if path == "" {
				path = port(fmt.Sprintf("lanes.%d.printer.port", i), l.Printer.Port, l.Printer.Driver)
			}
			lane.Printer, lane.Copies, lane.Ports["printer"] = agent.ESCPOS(path), copies[l.Printer.Copies], path
			form, what := formOf(*l.Printer)
			if what != "" {
				problems = append(problems, a.Refuse(fmt.Sprintf("lanes.%d.printer.logo", i), what, "write the path of a PNG file, or remove the line"))
			}
			lane.Form = form
		}
		if c := l.Cash; c != nil && c.Owner == "agent" {
			lane.Ports["cash"] = port(fmt.Sprintf("lanes.%d.cash.port", i), c.Port, "mdb cash")
			lane.Cash = agent.MDBCash(portOf[c.Driver], lane.Ports["cash"], scale[i].Currency, c.Bills == "on")
		}
		if l.Scanner != nil {
			lane.Ports["scanner"] = port(fmt.Sprintf("lanes.%d.scanner.port", i), l.Scanner.Port, scannerPort(*l.Scanner))
			lane.Scanner = scannerOf(*l.Scanner, lane.Ports["scanner"])
		}
		if l.Audit != nil {
			lane.Ports["dex"] = port(fmt.Sprintf("lanes.%d.audit.port", i), l.Audit.Port, "dex")
			lane.Audit = agent.DEX(lane.Ports["dex"])
			lane.AuditEvery = l.Audit.Every
		}
		cfg.Lanes = append(cfg.Lanes, lane)
	}
	if len(problems) > 0 {
		return agent.Config{}, problems
	}
	return cfg, nil
}

func telemetryOf(t configs.Telemetry) time.Duration {
	if t.Export == "off" {
		return 0
	}
	return t.Every
}

// portOf is what a driver of an MDB bus stands for.
var portOf = map[string]mdb.Port{"qibixx": mdb.PortQibixx, "waferstar": mdb.PortWaferstar, "mdb-raw": mdb.PortRaw, "mdb": mdb.PortRaw}

// planOf is the plan of a lane's products. What its numbers and amounts mean is seen here.
func planOf(a configs.Agent, lane int, c money.Currency) (map[protocol.Outlet]agent.Planned, configs.Errors) {
	plan := map[protocol.Outlet]agent.Planned{}
	var problems configs.Errors
	products, where, number := a.Lanes[lane].Vending.Products, "products", "item"
	for _, o := range a.Lanes[lane].Vending.Outlets { // which a lane has in their place
		products, where, number = append(products, configs.Product{Item: o.Number, Name: o.Name, Price: o.Price}), "outlets", "number"
	}
	for i, p := range products {
		key := fmt.Sprintf("lanes.%d.vending.%s.%d.", lane, where, i)
		n, err := strconv.ParseUint(p.Item, 10, 16)
		item := protocol.Outlet(n)
		if err != nil || item == protocol.OutletAny {
			problems = append(problems, a.Refuse(key+number, p.Item+" is no item number", "write 0 to 65534"))
			continue
		}
		if first, twice := plan[item]; twice {
			problems = append(problems, a.Refuse(key+number, fmt.Sprintf("item %d is %s already", item, first.Name), "one item, one product"))
		}
		out := agent.Planned{Name: p.Name, Charge: a.Lanes[lane].Vending.PriceAuthority == "cloud"}
		if p.Price != "" {
			if out.Price, err = money.Parse(string(p.Price), c); err == nil && where == "outlets" && out.Price.Minor == 0 {
				err = errors.New("nothing")
			}
			if err != nil {
				problems = append(problems, a.Refuse(key+"price", fmt.Sprintf("%s is no amount of %s", p.Price, c), "write it as on the machine's display"))
			}
		}
		plan[item] = out
	}
	return plan, problems
}

// passwordOf is what a terminal wants of a cash register; what says why there is none. No file: "".
func passwordOf(file configs.Path) (password, what string) {
	if file == "" {
		return "", ""
	}
	b, err := os.ReadFile(string(file)) //nolint:gosec // the technician's
	if err != nil {
		return "", err.Error()
	}
	password = strings.TrimSpace(string(b))
	if len(password) != 6 || strings.Trim(password, "0123456789") != "" {
		return "", "the file does not hold six digits"
	}
	return password, ""
}

// oneWay: a lane's printer is at a port or in the network.
func oneWay(a configs.Agent, lane int) configs.Errors {
	if p := a.Lanes[lane].Printer; p != nil && p.Address != "" && p.Port != configs.Auto {
		return configs.Errors{a.Refuse(fmt.Sprintf("lanes.%d.printer.address", lane), "a printer has a port or an address", "remove one of the two")}
	}
	return nil
}

// formOf is how a printer's papers are; what says why its logo cannot be on them.
func formOf(p configs.Printer) (f paper.Form, what string) {
	f = paper.Form{Columns: columns[p.Paper], Charset: paper.Charsets[p.Charset]}
	if p.Logo == "" {
		return f, ""
	}
	file, err := os.Open(string(p.Logo)) //nolint:gosec // the technician's
	if err != nil {
		return f, err.Error()
	}
	defer func() { _ = file.Close() }()
	if f.Logo, err = paper.ReadPNG(file, f.Columns); err != nil {
		return f, fmt.Sprintf("%s: %v", p.Logo, err)
	}
	return f, ""
}

// copies are the papers of a sale.
var copies = map[string]agent.Copies{"buyer": agent.BuyersCopy, "merchant": agent.SellersCopy, "both": agent.BothCopies, "none": agent.NoCopies}

// columns of the papers a printer can have.
var columns = map[string]int{"58mm": paper.Width58, "80mm": paper.Width80}

// findPort is the path of a port; auto is the one that is a driver's by its name, among keyboards where typing
// stands before that. what says why not.
func findPort(p configs.Port, driver string, ports func() []string) (path, what string) {
	if p != configs.Auto {
		return string(p), ""
	}
	typed, driver := strings.HasPrefix(driver, typing), strings.TrimPrefix(driver, typing)
	var all, fit []string
	for _, path := range ports() {
		if keyboard := strings.HasPrefix(path, "/dev/input/"); keyboard != typed {
			continue
		}
		all = append(all, path)
		if probe.Suits(path, driver) {
			fit = append(fit, path)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], ""
	case len(fit) > 1:
		return "", fmt.Sprintf("auto found %d of %s: %s", len(fit), driver, strings.Join(fit, ", "))
	case len(all) > 0:
		return "", fmt.Sprintf("auto found no %s among %s", driver, strings.Join(all, ", "))
	}
	if typed {
		return "", "auto found no keyboard at all"
	}
	return "", "auto found no serial port at all"
}

// typing stands before a driver whose port is a keyboard.
const typing = "keyboard "

// serialPorts are the ports that are plugged in, those of keyboards among them.
func serialPorts() []string {
	paths, _ := filepath.Glob("/dev/serial/by-id/*") // of a pattern that is right
	keyboards, _ := filepath.Glob("/dev/input/by-id/*-event-kbd")
	return append(paths, keyboards...)
}

// given reports whether a flag, or its variable, says something.
func given(c *cobra.Command, env []string, flag string) bool {
	_, ok := lookup(env)(variable(flag))
	return ok || c.Flags().Changed(flag)
}

// lookup is os.LookupEnv of an environment.
func lookup(env []string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := len(env) - 1; i >= 0; i-- {
			if text, ok := strings.CutPrefix(env[i], name+"="); ok {
				return text, true
			}
		}
		return "", false
	}
}
