package configs

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// The comments at the keys are what explain and the schema say: keep them in a technician's words.

// Agent is the file of one box: what stands where. Prices and limits are not here, the cloud sends them.
type Agent struct {
	// Folder of this device's identity, as coinop-cloud device add wrote it: device.key, device.crt, root.crt, cloud.json.
	Identity Path `key:"identity" need:"yes" like:"/etc/coinop/identity" flag:"identity"`
	// Folder of the journal, where everything lives that must survive a power cut. Made when missing; one agent, one folder.
	Data Path `key:"data" need:"yes" like:"/var/lib/coinop" flag:"data"`
	// Address of the cloud. Outgoing, TLS only; no port need be open to this box.
	Cloud Address `key:"cloud" need:"yes" like:"cloud.example.com:8883" flag:"cloud"`
	// Currency that the machines' prices are in.
	Currency Currency `key:"currency" default:"EUR" like:"EUR" flag:"currency"`
	// Places at this box where one buyer at a time can buy; the first is lane 0.
	Lanes []Lane `key:"lanes" need:"yes" most:"16"`
	// Door, tamper loop, lamp, buzzer and power relays at pins of this computer. Without this block there are none; those at a lane's relay board stand at its vending.
	Board *Board `key:"board"`
	// Thermometers, for status and telemetry, and warnings.
	Temperatures []Thermometer `key:"temperatures" most:"8"`
	// A device that restarts this box when the agent hangs. That of systemd (WatchdogSec) needs no line here.
	Watchdog *Watchdog `key:"watchdog"`
	// What stands on every receipt.
	Receipt Receipt `key:"receipt"`
	// How the disk is watched that the journal lies on. It should be a partition without logs and downloads.
	Storage Storage `key:"storage"`
	// What the agent tells of itself to the fleet's operators, by OpenTelemetry over the connection it has.
	Telemetry Telemetry `key:"telemetry"`
	// How long the agent waits for others.
	Timeouts Timeouts `key:"timeouts"`
	// Where programs of this box order and watch the lanes. Without this block nowhere.
	Screen *Screen `key:"screen"`
	// What the agent writes to standard error.
	Log Log `key:"log"`

	Origin
}

// Lane is one place to buy at.
type Lane struct {
	// The machine that gives out the goods.
	Vending *Vending `key:"vending" need:"yes"`
	// The card reader. Without this block no cards are taken here.
	Reader *Reader `key:"reader"`
	// More readers of this place, beside the first: for customer cards, or stripes. The first card that is read at any of them pays. In status they are reader 2 and reader 3.
	Readers []Reader `key:"readers" most:"2" flags:"none"`
	// A payment terminal that reads cards and asks its own bank. It is in place of the reader; at a lane of outlets there may be cash too, and an order says which.
	Terminal *Terminal `key:"terminal"`
	// A reader of barcodes and QR codes. Nobody can pay with one yet: what is shown to it is refused by name, and its kind recorded.
	Scanner *Scanner `key:"scanner"`
	// The receipt printer. Without this block receipts are kept in the data folder only.
	Printer *Printer `key:"printer"`
	// The machine's own books, read over its DEX port. Without this block they are not.
	Audit *Audit `key:"audit"`
	// Coins and notes. Without this block the machine's controller may take them, and we see it say so.
	Cash *Cash `key:"cash"`
}

// Cash is who takes coins and notes.
type Cash struct {
	// vmc: the machine's controller, with devices of its own. agent: we drive a coin changer and a note validator, take cash for what is ordered here and give change.
	Owner string `key:"owner" default:"vmc" one:"vmc agent"`
	// What the changer and the validator are connected by, where they are ours: qibixx (MDB Pi HAT, MDB-USB) and waferstar (MDB-RS232, not RS232-MDB) are adapters that are the bus's master for us; mdb a serial port with parity at the bus itself.
	Driver string `key:"driver" default:"mdb" one:"mdb qibixx waferstar"`
	// Serial port of the changer's MDB bus, which is not the machine's. Only with owner: agent. ls -l /dev/serial/by-id shows what is there.
	Port Port `key:"port" like:"/dev/serial/by-id/usb-FTDI_MDB_Master-if00"`
	// off where there is no note validator.
	Bills string `key:"bills" default:"on" one:"on off"`
}

// Audit is where a machine's own books are read.
type Audit struct {
	// Serial port of the cable in the machine's DEX socket. ls -l /dev/serial/by-id shows what is there.
	Port Port `key:"port" need:"yes" like:"/dev/serial/by-id/usb-FTDI_DEX-if00" flag:"dex"`
	// How often they are read, when nobody buys: the machine may sell nothing for some seconds.
	Every time.Duration `key:"every" default:"24h" least:"10s" most:"168h" flag:"dex-every"`
}

// Vending is the side that gives out the goods.
type Vending struct {
	// What the machine is connected by. qibixx (MDB-USB, MDB Pi HAT) and waferstar (RS232-MDB, also sold as PC2MDB and Pi2MDB; not MDB-RS232) are adapters. mdb-raw is a serial port with parity at the bus itself, for the bench: Linux is not always as fast as the bus wants. relay-board and gpio are for machines without a vending controller: a Modbus relay board on RS-485, or pins of this computer.
	Driver string `key:"driver" default:"qibixx" one:"qibixx waferstar mdb-raw relay-board gpio"`
	// Serial port of the adapter or board; auto when only one is plugged in. ls -l /dev/serial/by-id shows what is there.
	Port Port `key:"port" default:"auto" like:"/dev/serial/by-id/usb-Qibixx_MDB-HAT_0-if00" flag:"vmc"`
	// What one MDB unit is worth, from the machine's manual: scaling factor 5 with 2 decimal places is 0.05. auto is the currency's smallest coin, 0.01.
	Scale Scale `key:"scale" default:"auto" like:"0.05"`
	// What the buyer does first: choose, at a machine that is always ready to be asked; or show the card, and the machine then lets him choose within a hold. Some machines can do only one of them. Only at an MDB bus.
	First string `key:"first" default:"choice" one:"choice card"`
	// Most that a card is held for where it comes first; what is sold is charged, the rest let go. Without it 10 units of the currency. One for all lanes.
	Hold Amount `key:"hold" like:"5.00"`
	// Language of the machine's display while a card is in use, two letters of ISO 639, at machines that can show more than one. With mdb-raw and waferstar.
	Language string `key:"language" default:"en" match:"[a-z]{2}" says:"two letters of ISO 639" like:"de"`
	// Whose price is charged where the machine's and that of products differ: the machine's (vmc), or the plan's (cloud), which the machine is told with the approval. Either is reported.
	PriceAuthority string `key:"price_authority" default:"vmc" one:"vmc cloud"`
	// What stands behind the machine's item numbers: names for receipts, and prices to hold the machine's against.
	Products []Product `key:"products" most:"999"`
	// With relay-board and gpio: what hangs at its relays, and what it costs.
	Outlets []Outlet `key:"outlets" most:"32"`
	// Address of the relay board, as its switches or its maker's program say.
	Address string `key:"address" default:"1" match:"[0-9]{1,3}" says:"1 to 247" like:"1"`
	// With gpio: at which level of its pin a relay is on.
	RelaysActive string `key:"relays_active" default:"high" one:"high low"`
	// At which level an input is active: low where a contact pulls it to ground.
	InputsActive string `key:"inputs_active" default:"high" one:"high low"`
	// With relay-board and gpio: input that is active while the service door is open. Opening and closing are recorded, and the machine's books are read then where there are any (audit).
	Door string `key:"door" match:"[0-9]{1,2}|[A-Z][A-Z0-9_]{1,19}" says:"a number from 1 to 32, or a pin" like:"7"`
	// With relay-board and gpio: input of a tamper loop, which is closed and so active; when it opens or its wire is cut, the lane sells nothing until coinop-agent tamper clear.
	Tamper string `key:"tamper" match:"[0-9]{1,2}|[A-Z][A-Z0-9_]{1,19}" says:"a number from 1 to 32, or a pin" like:"8"`
}

// Outlet is something that this box switches on itself.
type Outlet struct {
	// Number it is ordered and reported by.
	Number string `key:"number" need:"yes" match:"[0-9]{1,5}" says:"a number up to 65534" like:"1"`
	// Name, for receipts and reports.
	Name string `key:"name" need:"yes" match:".{1,60}" says:"1 to 60 characters" like:"Washer 1"`
	// What one vend of it costs.
	Price Amount `key:"price" need:"yes" like:"3.00"`
	// Its relay: the number on the board, or with gpio the name of a pin.
	Relay string `key:"relay" need:"yes" match:"[0-9]{1,2}|[A-Z][A-Z0-9_]{1,19}" says:"a number from 1 to 32, or a pin" like:"1"`
	// How many pulses one vend is, as the machine counts coins.
	Pulses string `key:"pulses" default:"1" match:"[0-9]{1,3}" says:"1 to 999" like:"6"`
	// How long a pulse is, or the relay is held. A relay board counts in 100ms, gpio in 10ms.
	On time.Duration `key:"on" default:"100ms" least:"20ms" most:"5m"`
	// Pause between two pulses.
	Off time.Duration `key:"off" default:"300ms" least:"20ms" most:"10s"`
	// The relay is never on for longer at a time; a longer on is refused here.
	MaxOn time.Duration `key:"max_on" default:"10s" least:"20ms" most:"5m"`
	// Input that becomes active when it has started or given something out. Without it the pulses are all that is known.
	Feedback string `key:"feedback" match:"[0-9]{1,2}|[A-Z][A-Z0-9_]{1,19}" says:"a number from 1 to 32, or a pin" like:"1"`
	// How long after the last pulse it may take to; when it does not, the buyer is not charged.
	Window time.Duration `key:"window" default:"5s" least:"100ms" most:"1m"`
	// Input of the button that orders it.
	Button string `key:"button" match:"[0-9]{1,2}|[A-Z][A-Z0-9_]{1,19}" says:"a number from 1 to 32, or a pin" like:"5"`
	// Offered without a button: hold a card to the reader and it runs. Only where it is the lane's only outlet.
	Always bool `key:"always" default:"false"`
}

// Product is what stands at an outlet.
type Product struct {
	// Number of the item, as the machine says it on MDB.
	Item string `key:"item" need:"yes" match:"[0-9]{1,5}" says:"a number up to 65534" like:"11"`
	// Name, for receipts and reports.
	Name string `key:"name" need:"yes" match:".{1,60}" says:"1 to 60 characters" like:"Cola 0.5 l"`
	// Price it is to have; a machine that asks another is reported. Without it the machine's is right.
	Price Amount `key:"price" like:"1.50"`
}

// Reader is a card reader.
type Reader struct {
	// What it is: vivopay, a contactless reader of ID TECH's; magstripe, a reader of stripes; pn532, a chip for closed-loop cards, the operator's own MIFARE Classic and DESFire, whose value is in the cloud: coinop-cloud account; pcsc, the same at a reader behind the service pcscd, also by contacts.
	Driver string `key:"driver" default:"vivopay" one:"vivopay magstripe pn532 pcsc"`
	// Serial port of the reader; auto when only one is plugged in. ls -l /dev/serial/by-id shows what is there, and of readers that are keyboards ls -l /dev/input/by-id. A pn532 may also hang at an I2C bus: /dev/i2c-1. A vivopay at USB without a serial port is /dev/hidraw0. Not with pcsc.
	Port Port `key:"port" default:"auto" like:"/dev/serial/by-id/usb-ID_TECH_VP3300_0-if00" flag:"reader"`
	// With pcsc, the reader's name as pcscd says it, or a part of it; without it there is one.
	Name string `key:"name" match:".{1,127}" says:"1 to 127 characters" like:"ACR122U"`
	// With magstripe, what it is connected by: keyboard (the default), it types, and the user of the agent must be in the group input; serial, at 9600 baud; magtek and idtech, heads that encrypt: /dev/hidraw0, or a serial port.
	Head string `key:"head" one:"keyboard serial magtek idtech"`
	// With magstripe, from which heads bank cards are taken: encrypted (the default), only from those that encrypt; none; clear, from all: their numbers then pass through this computer, which puts it under PCI DSS.
	BankCards string `key:"bank_cards" one:"encrypted none clear"`
	// With magstripe, and with a vivopay that has a head for stripes: taken, where the stripe of a card is read that has a chip; whoever does that bears the loss of copied cards. Without it the buyer is told to use the chip.
	ChipCards string `key:"chip_cards" one:"refused taken"`
	// With magstripe, the first digits of cards of your own, as 6000 or 600000-600099. They go on as a reference; their number does not. Anyone can copy a stripe: coinop-cloud account open wants --unverified for one.
	OwnCards []string `key:"own_cards" most:"32" match:"[0-9]{1,12}(-[0-9]{1,12})?" says:"the first digits, or two of them as 600000-600099" like:"600000-600099"`
	// With pn532 and pcsc, a file with the keys of closed-loop cards, a line each: mac KEY, classic BLOCK KEY, desfire APPLICATION KEYNUMBER FILE KEY (only pn532). Without it such a card is its chip's number, which anyone can copy.
	Keys Path `key:"keys_file" like:"/etc/coinop/cards.keys"`
	// With pn532 and pcsc without keys_file: taken, where cards that are only their chip's number are asked for in the cloud all the same, and pay where coinop-cloud account open --unverified was said for them. Whoever does that bears the loss of copied cards.
	Unproven string `key:"unproven_cards" one:"refused taken"`
}

// Scanner reads barcodes and QR codes.
type Scanner struct {
	// What it is connected by: serial, also as a USB serial device; keyboard, it types, and the user of the agent must be in the group input. Set it to a suffix of CR or Enter, a keyboard also to the US layout.
	Driver string `key:"driver" default:"serial" one:"serial keyboard"`
	// Its port; auto when only one is plugged in. ls -l /dev/serial/by-id shows what is there, and of keyboards ls -l /dev/input/by-id.
	Port Port `key:"port" default:"auto" like:"/dev/serial/by-id/usb-Honeywell_Scanner-if00"`
	// Speed of its serial port, in baud; a USB serial device does not mind.
	Speed string `key:"speed" default:"9600" one:"9600 19200 38400 57600 115200"`
	// How it is told to look, where it does not look all the time. gm65 is for modules of that family.
	Trigger string `key:"trigger" default:"none" one:"none honeywell newland gm65"`
}

// Terminal is a payment terminal that authorizes by itself.
type Terminal struct {
	// What it understands: ZVT over TCP, as most terminals in Germany, Austria and Switzerland do. mdb is a cashless reader for vending machines, at an MDB bus of its own: we are its machine.
	Driver string `key:"driver" default:"zvt" one:"zvt mdb"`
	// Its address in the local network; its port is usually 20007. It must be the same after a power cut: give it a fixed one. With zvt.
	Address Address `key:"address" like:"192.168.1.40:20007"`
	// Serial port with parity of the reader's MDB bus, which is not the machine's, nor that of a changer of ours. Only with mdb. ls -l /dev/serial/by-id shows what is there.
	Port Port `key:"port" like:"/dev/serial/by-id/usb-FTDI_MDB_Reader-if00"`
	// The reader's address at its bus, in hex: 60 where it is set up as the second cashless device. Only with mdb.
	Bus string `key:"bus_address" default:"10" one:"10 60"`
	// File with the six digits the terminal wants of a cash register. Without it they are zeros, as terminals are delivered.
	PasswordFile Path `key:"password_file" like:"/etc/coinop/terminal.password"`
	// purchase: what is approved is charged, and reversed when nothing came out. hold: it is reserved, and what came out is booked; the contract with the provider must have that.
	Payment string `key:"payment" default:"purchase" one:"purchase hold"`
	// Who composes the card part of the receipt: agent from what the terminal says, or the terminal itself.
	Receipt string `key:"receipt" default:"agent" one:"agent terminal"`
	// How often its day is ended, when nobody buys. Only then the provider pays out. With zvt.
	CloseEvery time.Duration `key:"close_every" default:"24h" least:"1h" most:"168h"`
}

// Printer is a receipt printer.
type Printer struct {
	// What it understands.
	Driver string `key:"driver" default:"escpos" one:"escpos"`
	// Serial port, or /dev/usb/lp0 for one at USB; auto finds a serial one by its name. ls -l /dev/serial/by-id shows what is there. Not with address.
	Port Port `key:"port" default:"auto" like:"/dev/usb/lp0" flag:"printer"`
	// Address of one in the local network, in place of its port; 9100 is usual. It must be the same after a power cut: give it a fixed one.
	Address Address `key:"address" like:"192.168.1.50:9100"`
	// Papers of a sale that are printed; every receipt is kept in the data folder.
	Copies string `key:"copies" default:"buyer" one:"buyer merchant both none"`
	// Width of its paper.
	Paper string `key:"paper" default:"80mm" one:"58mm 80mm"`
	// Characters it is set to: cp858 is Western Europe with the euro sign; gb18030 is Chinese, at printers with that font; utf8 is for those that take Unicode. A character it lacks is a question mark on paper.
	Charset string `key:"charset" default:"cp858" one:"cp858 gb18030 utf8"`
	// PNG picture above every receipt, dark is black. 384 pixels are the width of 58 mm, 576 of 80 mm; a wider one is made smaller.
	Logo Path `key:"logo" like:"/etc/coinop/logo.png"`
}

// Receipt is what stands on every receipt.
type Receipt struct {
	// Above: the seller's name, which is printed big, and below it the address.
	Head []string `key:"head" most:"8" match:".{1,100}" says:"1 to 100 characters" like:"Coffee Ltd"`
	// Below: whom to ask, in whose language.
	Foot []string `key:"foot" most:"8" match:".{1,100}" says:"1 to 100 characters" like:"Questions? 0800 123 456"`
	// on: every receipt ends with a QR code of the sale's number, for whoever scans instead of typing.
	QR string `key:"qr" default:"off" one:"off on"`
}

// Telemetry is traces, metrics and log; no card data is in them. It costs about 1 MB a day at the default.
type Telemetry struct {
	// off on lines that are paid by the byte.
	Export string `key:"export" default:"on" one:"on off"`
	// How often metrics leave; traces and log leave after a tenth of it.
	Every time.Duration `key:"every" default:"1m" least:"1s" most:"1h" flag:"telemetry"`
}

// Storage is the journal's disk.
type Storage struct {
	// Below this free space the cloud is told that the disk fills up; sales go on.
	WarnBelow Size `key:"warn_below" default:"128MB" least:"32MB" most:"999GB"`
	// Below this free space no sale begins. What is under way ends and is reported. The journal needs 32MB to work in.
	StopBelow Size `key:"stop_below" default:"48MB" least:"32MB" most:"999GB"`
	// A file that keeps room back, and is given up on a full disk so that what is under way can end. 0MB: none.
	Ballast Size `key:"ballast" default:"16MB" least:"0MB" most:"1GB"`
	// How long records stay that the cloud holds, for a cloud that must be restored from a backup; at most the last 50,000, and none when the disk fills up.
	KeepFor time.Duration `key:"keep_for" default:"720h" least:"1h" most:"8760h"`
}

// Screen is where an ordering program on this box speaks with the agent, by HTTP.
type Screen struct {
	// Address on this box alone: 127.0.0.1 and a port; port 0 is any free one, and stands in the file screen.addr of the data folder.
	Listen Address `key:"listen" default:"127.0.0.1:8480" any:"yes" like:"127.0.0.1:8480"`
}

// Timeouts are the longest waits.
type Timeouts struct {
	// Longest wait for the bank. Under 5s a bank cannot answer; MDB leaves 28s of its 30.
	Wait time.Duration `key:"wait" default:"10s" least:"5s" most:"28s" flag:"wait"`
	// Longest wait for the machine to say how a vend ended.
	VendTimeout time.Duration `key:"vend_timeout" default:"1m" least:"2s" most:"10m" flag:"vend-timeout"`
	// Longest wait for a card after a choice. The machine gives up on its own after about 24s.
	OrderTimeout time.Duration `key:"order_timeout" default:"1m" least:"5s" most:"10m" flag:"order-timeout"`
}

// Log is what is written to standard error. Card data is masked in all of it.
type Log struct {
	// text for eyes, json for a log collector.
	Format string `key:"format" default:"text" one:"text json" flag:"log"`
	// The least that is written: info is what a person cares about, debug what an engineer does. Applies at once.
	Level string `key:"level" default:"info" one:"debug info warn error"`
}

// checkZVT finds what a terminal in the network does not have, or needs.
func (a Agent) checkZVT(key string, t Terminal) (ps []Problem) {
	if t.Address == "" {
		ps = append(ps, a.Refuse(key+".address", "is missing", `write "address: 192.168.1.40:20007"`))
	}
	if t.Port != "" {
		ps = append(ps, a.Refuse(key+".port", "is for a reader at a bus, and the driver is zvt", "write driver: mdb, or remove the line"))
	}
	return ps
}

// checkBusReader finds what a reader at a bus does not have, or needs.
func (a Agent) checkBusReader(key string, t Terminal) (ps []Problem) {
	switch {
	case t.Port == "":
		ps = append(ps, a.Refuse(key+".port", "is missing", "write port: with the path of the reader's bus; ls -l /dev/serial/by-id shows what is there"))
	case t.Port == Auto:
		ps = append(ps, a.Refuse(key+".port", "a serial port does not say that a reader's bus hangs at it", "write the path; ls -l /dev/serial/by-id shows what is there"))
	}
	if t.Address != "" {
		ps = append(ps, a.Refuse(key+".address", "is for a terminal in the network, and the driver is mdb", "remove the line"))
	}
	if t.PasswordFile != "" {
		ps = append(ps, a.Refuse(key+".password_file", "is for a terminal in the network, and the driver is mdb", "remove the line"))
	}
	if t.Payment == "hold" {
		ps = append(ps, a.Refuse(key+".payment", "is hold, and a reader at a bus charges all of what it approved, or nothing", "remove the line"))
	}
	if t.Receipt == "terminal" {
		ps = append(ps, a.Refuse(key+".receipt", "is terminal, and a reader at a bus writes none", "remove the line"))
	}
	return ps
}

// check finds what no single value shows.
func (a Agent) check() []Problem {
	var ps []Problem
	ports, autos, terminals := map[Port]string{}, map[string]string{}, map[Address]string{}
	hold := ""
	see := func(key, driver string, p Port) {
		if first, twice := autos[driver]; twice && (p == Auto) {
			ps = append(ps, a.Refuse(key, fmt.Sprintf("auto cannot tell two of %s apart, %s has one too", driver, first),
				"write the path of each; ls -l /dev/serial/by-id shows them"))
		}
		if first, twice := ports[p]; twice && p != Auto {
			ps = append(ps, a.Refuse(key, fmt.Sprintf("%s is the port of %s already", p, first), "one port, one device: check which is which"))
		}
		if p == Auto {
			autos[driver] = key
		}
		ports[p] = key
	}
	for i, l := range a.Lanes {
		if l.Vending != nil {
			ps = append(ps, a.checkOutlets(i)...)
			key := fmt.Sprintf("lanes.%d.vending.", i)
			bus := l.Vending.Driver != "relay-board" && l.Vending.Driver != "gpio"
			switch h := string(l.Vending.Hold); {
			case l.Vending.First == "card" && !bus:
				ps = append(ps, a.Refuse(key+"first", "outlets of our own cannot open a session for a card", "write choice, or remove the line"))
			case l.Vending.First == "card" && l.Reader == nil && len(l.Readers) == 0:
				ps = append(ps, a.Refuse(key+"first", "is card, and this lane has no reader", "add reader: beside vending:"))
			case h != "" && l.Vending.First != "card":
				ps = append(ps, a.Refuse(key+"hold", "is for lanes where the card comes first", "write first: card beside it, or remove the line"))
			case h != "" && hold != "" && h != hold:
				ps = append(ps, a.Refuse(key+"hold", "another lane has "+hold, "one hold for all lanes"))
			case h != "":
				hold = h
			}
		}
		if l.Vending != nil && l.Vending.Driver != "gpio" {
			see(fmt.Sprintf("lanes.%d.vending.port", i), l.Vending.Driver, l.Vending.Port)
		}
		for _, r := range l.AllReaders() {
			key := fmt.Sprintf("lanes.%d.%s.", i, r.Key)
			see(key+"port", strings.TrimSpace(r.Driver+" "+r.Name), r.Port)
			ps = append(ps, a.checkReader(key, r.Reader)...)
		}
		if l.Reader == nil && len(l.Readers) > 0 && l.Terminal == nil {
			ps = append(ps, a.Refuse(fmt.Sprintf("lanes.%d.readers.0.driver", i), "is beside a first reader, and there is none", "write it below reader:"))
		}
		if l.Terminal != nil {
			key, at := fmt.Sprintf("lanes.%d.terminal", i), ".address"
			if l.Terminal.Driver == "mdb" {
				at = ".port"
			}
			if len(l.AllReaders()) > 0 {
				ps = append(ps, a.Refuse(key+at, "stands beside reader, which it is in place of", "remove one of the two"))
			}
			if l.Cash != nil && l.Cash.Owner == "agent" && l.Vending != nil && l.Vending.Driver != "relay-board" && l.Vending.Driver != "gpio" {
				ps = append(ps, a.Refuse(key+at, "stands beside cash of ours, and a machine with a controller cannot say which of the two its buyer wants", "remove one of the two"))
			}
			if l.Terminal.Driver == "mdb" {
				ps = append(ps, a.checkBusReader(key, *l.Terminal)...)
				if l.Terminal.Port != "" {
					see(key+".port", "mdb reader", l.Terminal.Port)
				}
			} else {
				ps = append(ps, a.checkZVT(key, *l.Terminal)...)
				if at, twice := terminals[l.Terminal.Address]; twice && l.Terminal.Address != "" {
					ps = append(ps, a.Refuse(key+".address", fmt.Sprintf("%s is the terminal of %s already", l.Terminal.Address, at), "one terminal, one lane"))
				}
				terminals[l.Terminal.Address] = fmt.Sprintf("lanes.%d", i)
			}
		}
		if sc := l.Scanner; sc != nil {
			see(fmt.Sprintf("lanes.%d.scanner.port", i), "scanner", sc.Port)
			if sc.Driver == "keyboard" && sc.Trigger != "none" {
				ps = append(ps, a.Refuse(fmt.Sprintf("lanes.%d.scanner.trigger", i), "is for a scanner at a serial port, and the driver is keyboard", "remove the line, and set the scanner to look by itself"))
			}
		}
		if l.Audit != nil {
			see(fmt.Sprintf("lanes.%d.audit.port", i), "dex", l.Audit.Port)
		}
		if c := l.Cash; c != nil {
			key := fmt.Sprintf("lanes.%d.cash.port", i)
			switch {
			case c.Owner == "agent" && c.Port == "":
				ps = append(ps, a.Refuse(fmt.Sprintf("lanes.%d.cash.owner", i), "is agent, and no port is named", "write port: with the path of the changer's bus below it"))
			case c.Owner == "agent":
				see(key, "mdb cash", c.Port)
			case c.Port != "":
				ps = append(ps, a.Refuse(key, "is for a changer of ours, and the owner is vmc", "write owner: agent, or remove the line"))
			}
		}
		if l.Printer != nil {
			see(fmt.Sprintf("lanes.%d.printer.port", i), l.Printer.Driver, l.Printer.Port)
		}
	}
	ps = append(append(ps, a.checkBoard()...), a.checkTemperatures()...)
	if a.Screen != nil {
		host, _, _ := net.SplitHostPort(string(a.Screen.Listen)) // the reader has seen that it is one
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			ps = append(ps, a.Refuse("screen.listen", "others than programs of this box could order there", "write 127.0.0.1 before the port"))
		}
	}
	if a.Storage.WarnBelow < a.Storage.StopBelow {
		ps = append(ps, a.Refuse("storage.warn_below", "is below storage.stop_below: nobody would be warned", "write more than that, as 128MB"))
	}
	return ps
}
