// Package code is the catalogue of fault codes: stable names of what can be wrong with a device, each
// with its cause and the next step of whoever stands before it.
//
//	f := code.Of(code.StorageFull)
//	fmt.Println(f.Code, f.Cause, f.Next)
package code

import (
	"slices"
	"strings"
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
)

// Codes of the board of door, lamp and relays.
const (
	BoardAbsent     Code = "board.absent"
	BoardBounces    Code = "contact_bounces"
	RecoveryReopen  Code = "recovery.reopen"
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

// ScannerNotTaken is the code of a scanner that reads what nobody takes.
const ScannerNotTaken Code = "scanner.not_taken"

// Fault is what a code means.
type Fault struct {
	Code  Code   `json:"code"`
	Cause string `json:"cause"`
	Next  string `json:"next"` // what to do, for a technician on site
	Sells bool   `json:"sells"`
}

var faults = []Fault{
	{StorageOK, "the journal's disk works and has room", "", true},
	{StorageLow, "the disk fills up", "make room on it: old logs, downloads; df -h shows what is left", true},
	{StorageFull, "the disk is full: no sale begins, what is under way ends", "make room on it now; it sells again by itself", false},
	{StorageReadOnly, "the disk has become read-only, as file systems do after errors", "look at dmesg; check the file system; replace an old SD card", false},
	{StorageFailing, "the disk answers with errors", "look at dmesg; replace the disk or SD card; keep the old one: records may be on it", false},
	{StorageDenied, "the agent's user may not write to the data folder", "give the folder to the user that the agent runs as: chown -R", false},
	{StorageForeign, "the data folder holds the journal of another device", "give this device a data folder of its own; that of the other must not be lost", false},
	{StorageRebuilt, "a file of the journal was spoiled; it was made anew from the second copy, nothing is lost", "the disk wears out: plan to replace it; journal.damaged-N can go when support has seen it", true},
	{StorageDamaged, "both copies of the journal were spoiled; a new one was begun", "replace the disk; keep journal.damaged-N for support: records that the cloud lacks are in it", true},
	{JournalFork, "two boxes run on one journal: the disk was copied", "let only one of them run; call the operator", false},
	{JournalEpoch, "the cloud does not know this journal: the data folder was lost or exchanged", "call the operator: coinop-cloud device add --replace", false},
	{JournalRolledBack, "the cloud holds more than this disk: an old image was put back", "call the operator: coinop-cloud device add --replace", false},
	{JournalWanting, "the cloud wants records that this device holds no more", "call the operator", false},
	{IdentityRevoked, "this device's certificate was revoked", "call the operator; a new identity makes it good", false},
	{ConfigInvalid, "the configuration file cannot be used", "coinop-agent config check FILE says where, and what to write", false},
	{DataFolder, "the data folder cannot be looked at", "is it the folder that the agent runs with, and may this user read it? try as root", false},
	{IdentityBroken, "this device's identity is not whole", "copy the folder again that coinop-cloud device add wrote, all four files", false},
	{IdentityExpired, "this device's certificate has expired, or the clock is wrong", "is this machine's clock right? else call the operator: coinop-cloud device add --replace", false},
	{IdentityExpires, "this device's certificate expires soon", "call the operator: coinop-cloud device add --replace", true},
	{IdentityRefused, "the cloud refused this device's certificate", "is it of that cloud, and has it expired?", false},
	{IdentityUnknown, "the cloud does not know this device", "was this device added at the cloud, and is this its newest identity?", false},
	{AgentNotRunning, "the agent does not run", "start it: systemctl start coinop-agent; its log says why it ended: journalctl -u coinop-agent", false},
	{AgentHung, "the agent runs and does not answer", "restart it: systemctl restart coinop-agent; send its log to support", false},
	{ClockOff, "this machine's clock is wrong", "let NTP keep it: timedatectl set-ntp true; an old box may want a new battery", true},
	{ClockUnsynced, "nothing keeps this machine's clock", "let NTP keep it: timedatectl set-ntp true", true},
	{JournalNone, "there are no records yet", "nothing, before the first start of the agent; else: is it the right data folder?", true},
	{JournalBroken, "the second copy of the records is spoiled", "leave the data folder as it is and restart the agent, which makes it good from the first; if it cannot, call support", false},
	{JournalWaiting, "records wait for the cloud for long", "look at the connection to the cloud; nothing is lost meanwhile", true},
	{LinkAddress, "the address of the cloud is not host:port", "write it as in cloud.example.com:8883", false},
	{LinkName, "the name of the cloud is not known", "is the address right, and does the network work?", false},
	{LinkRefused, "nothing listens at the cloud's address", "is the cloud running, and is the port right?", false},
	{LinkNoAnswer, "the cloud's address does not answer", "does the network work, and does a firewall let this port through?", false},
	{LinkClosed, "the cloud closed the connection", "was this device added there, and is no other agent using its identity?", false},
	{LinkExpired, "the cloud's certificate is not valid at this time", "is this machine's clock right? else a certificate has expired", false},
	{LinkOtherName, "the cloud's certificate is for another name", "is the address the one it was set up with?", false},
	{LinkUntrusted, "the cloud is not the one this identity was made by", "is the address right? else this device wants the identity of that cloud", false},
	{LinkDown, "no connection to the cloud", "check the network; the log says what the connection met", false},
	{CloudSilent, "the cloud does not answer", "call the operator if it lasts", false},
	{AcquirerDown, "the bank cannot be reached from the cloud", "call the operator if it lasts", false},
	{PortAbsent, "a serial port is not there", "is the cable in, and is the path right? ls -l /dev/serial/by-id shows what is there", false},
	{PortNoDevice, "the path of a port is no device", "write the path of the device: ls -l /dev/serial/by-id shows what is there", false},
	{PortDenied, "the user may not open a port", "put the user that the agent runs as into the group dialout: usermod -a -G dialout NAME", false},
	{PortLost, "a serial port went away", "is the cable in, and is the path right? ls -l /dev/serial/by-id shows what is there", false},
	{DriverPanic, "a driver ended by a mistake of ours; it is started again", "send the log to support", false},
	{Silent, "the port is open, the device says nothing", "is it switched on, and is this its port?", false},
	{Unfit, "the device is set up for something else", "the log says what it lacks; see its manual", false},
	{Garbage, "the device speaks another protocol", "is this its port, and is it the make that the configuration says?", false},
	{OutletRelayOn, "a relay was on that nobody had switched on; it was switched off", "does it happen again? look at the board and its wires", true},
	{OutletNoFeedback, "an outlet was given its pulses and its feedback input did not move: the buyer was not charged", "look at the machine behind it, and at the wire of its feedback input", true},
	{OutletInUse, "the feedback input of an outlet is active before it was given anything: in use, or stuck", "is the machine running? else look at the wire of its feedback input", true},
	{OutletBoard, "the relay board said that it cannot do what it was told", "has it so many relays and inputs? the log says which it was", true},
	{SetupNoPorts, "this machine has no serial port and no USB printer", "put the adapters in; ls /dev/serial/by-id shows what the computer sees", false},
	{SetupNoVending, "no vending side answers", "is the MDB adapter or the relay board in and powered? coinop-agent setup says what was tried where", false},
	{SetupNobodyPays, "nobody can pay: there is no reader and no coin changer", "put a reader or a changer in; a ZVT terminal is written into the file by hand: terminal: {address: ...}", false},
	{SetupSilent, "nobody answers at this port in any language we know", "is the device switched on? is it one of those that coinop-agent config explain driver names? a raw MDB port and a Waferstar adapter say nothing by themselves", true},
	{SetupTaken, "another process has this port", "stop the agent first: systemctl stop coinop-agent", false},
	{SetupNameOnly, "a port has a device's name, and the device does not answer", "is it switched on, and is its other end plugged in?", false},
	{SetupTooMany, "there are more of these than vending sides", "one is left out of the file; add a lane for it, or take it away", true},
	{SetupMovable, "this port's name changes when a cable is put elsewhere", "use its name under /dev/serial/by-id; an adapter without a serial number has none: use /dev/serial/by-path", true},
	{SetupOutlets, "a relay board does not know what is wired to it", "write its outlets into the file: relay, pulses, price; the one that stands there is an example", true},
	{SetupPrinterOffline, "the printer answers, and cannot print", "close its cover and look at its paper", true},
	{SellingMode, "a lane sells by fewer ways to pay than it has, or by all of them again", "the record says by which and why; mend what its code says", true},
	{VendingAway, "the vending machine does not ask its card reader for anything", "is the machine on, is its door closed, and is the MDB harness in?", false},
	{CashUnknown, "what the coin changer holds is not known, so no cash is taken", "is the changer in its place? look at its tubes", true},
	{PlanUnmapped, "the machine sells under an item number that the plan does not have; it is sold and booked", "add the item to products in the configuration", true},
	{PlanPrice, "the machine's price of an item is not the plan's; the machine's is charged", "set the price at the machine, or in the configuration", true},
	{PlanFits, "an item that did not fit the plan does again", "nothing: the report of it is over", true},
	{AuditBoard, "the machine's books are another board's: its counters begin anew", "was the board exchanged? then all is well; else look for who did", true},
	{AuditScale, "the machine's books count in other money than before", "look at the machine's settings", true},
	{AuditBackwards, "a counter in the machine's books fell, which none does", "look at the file under audits; was the board exchanged or its memory cleared?", true},
	{AuditProducts, "what the machine's selections sold does not add up to what it says it sold", "look at the file under audits: coinop-agent dex show", true},
	{CashJammed, "coins or bills are stuck", "open the changer or the validator and clear its path; it goes on by itself", true},
	{CashCount, "the changer says that it gave other change than its tubes lack; the tubes were believed", "look at the tubes and at their sensors", true},
	{CashByHand, "coins were taken out at the changer's own buttons; no record but this one counts them", "was it a person of ours? then count the tubes", true},
	{BoardAbsent, "this computer has no such pins: no door, tamper loop, lamp or relay of the configuration's board works", "are the names right, as gpioinfo has them? where there are none, remove board, or write required: false", true},
	{BoardBounces, "the contact of a door or tamper loop opens and closes all the time", "look at the switch and at its wire", true},
	{RecoveryReopen, "a device stays away, and its port is opened again and again", "nothing yet; if it lasts, look at its cable and its power", true},
	{RecoveryPower, "a device stayed away, and its power was taken from it for a moment", "nothing, if it is back; else look at the device", true},
	{RecoveryRestart, "a device stayed away, and the agent started anew for it while nobody bought", "look at the device, at its cable and its power", true},
	{RecoveryOver, "a device that stayed away is back", "nothing", true},
	{SensorLost, "a thermometer gives no reading that can be", "look at its wires, its pull-up and its supply; ls /sys/bus/w1/devices shows what is on the 1-wire bus", true},
	{TooHot, "it is hotter than the configuration's limit", "is the door shut, the fan free, the cooling on?", true},
	{TooCold, "it is colder than the configuration's limit", "look at the heating, or at the cooling's thermostat", true},
	{WatchdogAbsent, "the configuration's watchdog cannot be opened: nobody restarts the box when the agent hangs", "is there such a device, may the agent's user write to it, and has another program it open?", true},
	{ScannerNotTaken, "a buyer showed a code to the scanner: no payments by code are taken yet", "take signs off the machine that promise it", true},
	{Tamper, "the machine or its reader was opened, or the wire of its tamper loop is cut: nothing is sold", "look at it, and at its readers; close it; then coinop-agent tamper clear --by NAME", false},
}

// All are the faults of the catalogue, in the order of its parts.
func All() []Fault { return slices.Clone(faults) }

// Of is what a code means; of one that is not in the catalogue, its name alone.
func Of(c Code) Fault {
	for _, f := range faults {
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
