// Package code is the catalogue of fault codes: stable names of what can be wrong with a device, each
// with its cause and the next step of whoever stands before it.
//
//	f := code.Of(code.StorageFull)
//	fmt.Println(f.Code, f.Cause, f.Next)
package code

import (
	"embed"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Code names a fault. Codes never change their meaning and are never used again.
type Code string

// Codes of the journal's disk.
const (
	StorageOK       Code = "storage.ok"
	StorageLow      Code = "storage.low"
	StorageFull     Code = "storage.full"
	StorageReadOnly Code = "storage.read_only"
	StorageFailing  Code = "storage.failing"
	StorageDenied   Code = "storage.denied"
	StorageForeign  Code = "storage.foreign"
	StorageRebuilt  Code = "storage.rebuilt"
	StorageDamaged  Code = "storage.damaged"
)

// Codes with which the cloud stops a device.
const (
	JournalFork       Code = "journal.fork"
	JournalEpoch      Code = "journal.epoch"
	JournalRolledBack Code = "journal.rolled_back"
	JournalWanting    Code = "journal.wanting"
	IdentityRevoked   Code = "identity.revoked"
)

// Codes of what must be right before an agent can run, and of the agent itself.
const (
	ConfigInvalid   Code = "config.invalid"
	DataFolder      Code = "data.folder"
	IdentityBroken  Code = "identity.broken"
	IdentityExpired Code = "identity.expired"
	IdentityExpires Code = "identity.expires"
	IdentityRefused Code = "identity.refused"
	IdentityUnknown Code = "identity.unknown"
	AgentNotRunning Code = "agent.not_running"
	AgentHung       Code = "agent.hung"
	AgentUnclean    Code = "agent.unclean"
	ClockOff        Code = "clock.off"
	ClockUnsynced   Code = "clock.unsynced"
	JournalNone     Code = "journal.none"
	JournalBroken   Code = "journal.broken"
	JournalWaiting  Code = "journal.waiting"
)

// Codes of what a connection to the cloud meets.
const (
	LinkAddress   Code = "link.address"
	LinkName      Code = "link.name"
	LinkRefused   Code = "link.refused"
	LinkNoAnswer  Code = "link.no_answer"
	LinkClosed    Code = "link.closed"
	LinkExpired   Code = "link.expired"
	LinkOtherName Code = "link.other_name"
	LinkUntrusted Code = "link.untrusted"
)

// Codes of the way to the bank.
const (
	LinkDown     Code = "link.down"
	CloudSilent  Code = "link.cloud_silent"
	AcquirerDown Code = "link.acquirer_down"
	AccountsAway Code = "link.accounts_away"
)

// Codes of hardware, as drivers say them.
const (
	PortAbsent   Code = "port_absent"
	PortNoDevice Code = "port_no_device"
	PortDenied   Code = "port_denied"
	PortLost     Code = "port_lost"
	DriverPanic  Code = "driver_panic"
	Silent       Code = "device_silent"
	Unfit        Code = "not_configured"
	Garbage      Code = "garbage"
	Tamper       Code = "tamper"
	Door         Code = "door"
)

// Codes of outlets that we switch ourselves, as package outlet has them.
const (
	OutletRelayOn    Code = "relay_on"
	OutletNoFeedback Code = "no_feedback"
	OutletInUse      Code = "in_use"
	OutletBoard      Code = "board_error"
)

// Codes of what setup finds about the wiring.
const (
	SetupNoPorts        Code = "setup.no_ports"
	SetupNoVending      Code = "setup.no_vending"
	SetupNobodyPays     Code = "setup.nobody_pays"
	SetupSilent         Code = "setup.silent"
	SetupTaken          Code = "setup.taken"
	SetupConsole        Code = "setup.console"
	SetupNameOnly       Code = "setup.name_only"
	SetupTooMany        Code = "setup.too_many"
	SetupMovable        Code = "setup.movable"
	SetupOutlets        Code = "setup.outlets"
	SetupPrinterOffline Code = "setup.printer_offline"
)

// Codes of how a lane sells.
const (
	SellingMode Code = "selling.mode"
	VendingAway Code = "vending.away"
	CashUnknown Code = "cash.unknown"
)

// Codes of the plan of a machine's products.
const (
	PlanUnmapped Code = "plan.unmapped"
	PlanPrice    Code = "plan.price"
	PlanFits     Code = "plan.fits"
)

// Codes of what a machine's own books say.
const (
	AuditBoard     Code = "audit.board"
	AuditScale     Code = "audit.scale"
	AuditBackwards Code = "audit.backwards"
	AuditProducts  Code = "audit.products"
)

// Codes of changers and validators that are ours.
const (
	CashJammed Code = "cash.jammed"
	CashCount  Code = "cash.count"
	CashByHand Code = "cash.by_hand"
	CashOwed   Code = "cash.owed"
	CashUnsure Code = "cash.unsure"
	CashExact  Code = "cash.exact"
)

// Codes of the board of door, lamp and relays.
const (
	BoardAbsent     Code = "board.absent"
	BoardBounces    Code = "contact_bounces"
	RecoveryReopen  Code = "recovery.reopen"
	RecoveryReset   Code = "recovery.usb_reset"
	RecoveryPower   Code = "recovery.power_cycle"
	RecoveryRestart Code = "recovery.restart"
	RecoveryOver    Code = "recovery.over"
)

// Codes of thermometers and watchdogs.
const (
	SensorLost     Code = "sensor_lost"
	TooHot         Code = "too_hot"
	TooCold        Code = "too_cold"
	WatchdogAbsent Code = "watchdog.absent"
)

// Codes of scanners: ScannerNotTaken of what nobody takes yet, the others are the reasons of package hardware
// behind a dot.
const (
	ScannerNotTaken Code = "scanner.not_taken"
	ScannerStale    Code = "scanner.code_stale"
	ScannerTooLong  Code = "scanner.code_too_long"
	ScannerGarbled  Code = "scanner.code_garbled"
	ScannerTorn     Code = "scanner.code_torn"
)

// Codes of printers; those of package escpos, and of a way to one in the network.
const (
	PrinterPaperLow  Code = "printer.paper_low"
	PrinterPaperOut  Code = "printer.paper_out"
	PrinterCoverOpen Code = "printer.cover_open"
	PrinterCutter    Code = "printer.cutter"
	PrinterError     Code = "printer.error"
	PrinterOffline   Code = "printer.offline"
	PrinterName      Code = "printer.name"
	PrinterRefused   Code = "printer.refused"
	PrinterNoAnswer  Code = "printer.no_answer"
)

// Codes of readers and payment terminals.
const (
	CardTorn           Code = "card.torn"
	ReaderMalfunction  Code = "reader.malfunction"
	PCSCService        Code = "pcsc.service"
	PCSCDenied         Code = "pcsc.denied"
	PCSCReader         Code = "pcsc.reader"
	TerminalInitialize Code = "terminal_initialisation"
	TerminalDiagnosis  Code = "terminal_diagnosis"
	TerminalName       Code = "terminal.name"
	TerminalRefused    Code = "terminal.refused"
	TerminalNoAnswer   Code = "terminal.no_answer"
)

// Fault is what a code means.
type Fault struct {
	Code  Code   `json:"code"`
	Cause string `json:"cause"`
	Next  string `json:"next"` // what to do, for a technician on site
	Sells bool   `json:"sells"`
}

// sells are the codes in the order of the catalogue's parts, and whether what has one still sells.
var sells = []struct {
	code  Code
	sells bool
}{
	{StorageOK, true},
	{StorageLow, true},
	{StorageFull, false},
	{StorageReadOnly, false},
	{StorageFailing, false},
	{StorageDenied, false},
	{StorageForeign, false},
	{StorageRebuilt, true},
	{StorageDamaged, true},
	{JournalFork, false},
	{JournalEpoch, false},
	{JournalRolledBack, false},
	{JournalWanting, false},
	{IdentityRevoked, false},
	{ConfigInvalid, false},
	{DataFolder, false},
	{IdentityBroken, false},
	{IdentityExpired, false},
	{IdentityExpires, true},
	{IdentityRefused, false},
	{IdentityUnknown, false},
	{AgentNotRunning, false},
	{AgentHung, false},
	{AgentUnclean, true},
	{ClockOff, true},
	{ClockUnsynced, true},
	{JournalNone, true},
	{JournalBroken, false},
	{JournalWaiting, true},
	{LinkAddress, false},
	{LinkName, false},
	{LinkRefused, false},
	{LinkNoAnswer, false},
	{LinkClosed, false},
	{LinkExpired, false},
	{LinkOtherName, false},
	{LinkUntrusted, false},
	{LinkDown, false},
	{CloudSilent, false},
	{AcquirerDown, false},
	{AccountsAway, false},
	{PortAbsent, false},
	{PortNoDevice, false},
	{PortDenied, false},
	{PortLost, false},
	{DriverPanic, false},
	{Silent, false},
	{Unfit, false},
	{Garbage, false},
	{OutletRelayOn, true},
	{OutletNoFeedback, true},
	{OutletInUse, true},
	{OutletBoard, true},
	{SetupNoPorts, false},
	{SetupNoVending, false},
	{SetupNobodyPays, false},
	{SetupSilent, true},
	{SetupTaken, false},
	{SetupConsole, false},
	{SetupNameOnly, false},
	{SetupTooMany, true},
	{SetupMovable, true},
	{SetupOutlets, true},
	{SetupPrinterOffline, true},
	{SellingMode, true},
	{VendingAway, false},
	{CashUnknown, true},
	{PlanUnmapped, true},
	{PlanPrice, true},
	{PlanFits, true},
	{AuditBoard, true},
	{AuditScale, true},
	{AuditBackwards, true},
	{AuditProducts, true},
	{CashJammed, true},
	{CashCount, true},
	{CashByHand, true},
	{CashOwed, true},
	{CashUnsure, true},
	{CashExact, true},
	{BoardAbsent, true},
	{BoardBounces, true},
	{RecoveryReopen, true},
	{RecoveryReset, true},
	{RecoveryPower, true},
	{RecoveryRestart, true},
	{RecoveryOver, true},
	{SensorLost, true},
	{TooHot, true},
	{TooCold, true},
	{WatchdogAbsent, true},
	{ScannerNotTaken, true},
	{ScannerStale, true},
	{ScannerTooLong, true},
	{ScannerGarbled, true},
	{ScannerTorn, true},
	{PrinterPaperLow, true},
	{PrinterPaperOut, true},
	{PrinterCoverOpen, true},
	{PrinterCutter, true},
	{PrinterError, true},
	{PrinterOffline, true},
	{PrinterName, true},
	{PrinterRefused, true},
	{PrinterNoAnswer, true},
	{CardTorn, true},
	{ReaderMalfunction, false},
	{PCSCService, false},
	{PCSCDenied, false},
	{PCSCReader, false},
	{TerminalInitialize, false},
	{TerminalDiagnosis, false},
	{TerminalName, false},
	{TerminalRefused, false},
	{TerminalNoAnswer, false},
	{Tamper, false},
	{Door, true},
}

// texts are what the codes mean, a file a language.
//
//go:embed fault.*.txt
var texts embed.FS

// English is the language that every code has.
const English = "en"

var catalogue = sync.OnceValue(func() map[string][]Fault {
	files, err := texts.ReadDir(".")
	if err != nil {
		panic(err) // it is in the program
	}
	all := map[string][]Fault{}
	for _, f := range files {
		text, err := texts.ReadFile(f.Name())
		if err != nil {
			panic(err)
		}
		said := map[Code][2]string{}
		for line := range strings.Lines(string(text)) {
			if part := strings.Split(strings.TrimRight(line, "\n"), "\t"); len(part) == 3 {
				said[Code(part[0])] = [2]string{part[1], part[2]}
			}
		}
		lang := strings.TrimSuffix(strings.TrimPrefix(f.Name(), "fault."), ".txt")
		for _, s := range sells {
			all[lang] = append(all[lang], Fault{s.code, said[s.code][0], said[s.code][1], s.sells})
		}
	}
	return all
})

// Languages are those that there are texts in, by ISO 639-1.
func Languages() []string { return slices.Sorted(maps.Keys(catalogue())) }

// In are the faults of the catalogue in a language, in the order of its parts; nil when there is no such.
func In(lang string) []Fault { return slices.Clone(catalogue()[lang]) }

// All are the faults of the catalogue in English.
func All() []Fault { return In(English) }

// Of is what a code means; of one that is not in the catalogue, its name alone.
func Of(c Code) Fault {
	for _, f := range catalogue()[English] {
		if f.Code == c {
			return f
		}
	}
	return Fault{Code: c}
}

// Blinks is how often a lamp blinks for a fault, by what a person would look at; 0 for no fault at all. What
// has no number of its own is 1.
func Blinks(c Code) int {
	if c == "" {
		return 0
	}
	group, _, _ := strings.Cut(string(c), ".")
	for _, b := range BlinkTable {
		if slices.Contains(b.Codes, string(c)) || slices.Contains(b.Codes, group) {
			return b.Times
		}
	}
	return 1
}

// Blink is a row of the table of blink codes.
type Blink struct {
	Times int
	Of    string   // what a person would look at
	Codes []string // or the part of them before the dot
}

// BlinkTable is all of them but 1, which is anything else.
var BlinkTable = []Blink{
	{2, "no way to the cloud or the bank", []string{"link"}},
	{3, "the journal's disk", []string{"storage"}},
	{4, "stopped by the cloud: call the operator", []string{"journal", "identity"}},
	{5, "a device is not there, or says nothing: cable, power", []string{string(PortAbsent), string(PortLost), string(Silent)}},
	{6, "coins or bills", []string{"cash"}},
	{7, "opened: tamper", []string{string(Tamper)}},
}
