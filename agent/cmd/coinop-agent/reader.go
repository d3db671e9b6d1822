package main

import (
	"os"
	"strconv"

	"coinop/agent"
	"coinop/configs"
	"coinop/hardware"
	"coinop/hardware/magstripe"
	"coinop/hardware/scanner"
	"coinop/hardware/vivopay"
	"coinop/protocol/money"
)

// heads are what a reader of stripes is connected by; "" is a keyboard.
var heads = map[string]magstripe.Head{"serial": magstripe.HeadSerial, "magtek": magstripe.HeadMagTek, "idtech": magstripe.HeadIDTECH}

// banks are from which heads bank cards are taken; "" is from those that encrypt.
var banks = map[string]magstripe.Bank{"none": magstripe.BankNone, "clear": magstripe.BankClear}

// readerPort is the driver of a reader, as findPort wants it.
func readerPort(r configs.Reader) string {
	if r.Driver == "magstripe" && heads[r.Head] == magstripe.HeadKeyboard {
		return typing + r.Driver
	}
	return r.Driver
}

func readerOf(r configs.Reader, path string, c money.Currency, keys hardware.LoopKeys) func(agent.Wiring) (agent.Reader, error) {
	switch r.Driver {
	case "vivopay":
		return agent.ViVOpay(vivopay.Config{Path: path, Currency: c, Chip: r.ChipCards == "taken"})
	case "pn532":
		return agent.PN532(path, c, keys)
	case "pcsc":
		return agent.PCSC(path, c, keys)
	}
	rules := magstripe.Rules{Bank: banks[r.BankCards], Chip: r.ChipCards == "taken"}
	for _, own := range r.OwnCards {
		from, to := configs.CardRange(own)
		rules.Own = append(rules.Own, magstripe.Range{From: from, To: to})
	}
	return agent.Magstripe(magstripe.Config{Path: path, Head: heads[r.Head], Currency: c, Rules: rules})
}

// cardsOf are the kinds of cards a reader takes.
func cardsOf(r configs.Reader) agent.Cards {
	switch {
	case r.Driver == "pn532" || r.Driver == "pcsc":
		return agent.LoopCards
	case r.Driver != "magstripe" || len(r.OwnCards) == 0:
		return agent.BankCards
	}
	encrypts := heads[r.Head] == magstripe.HeadMagTek || heads[r.Head] == magstripe.HeadIDTECH
	if bank := banks[r.BankCards]; bank == magstripe.BankClear || bank == magstripe.BankEncrypted && encrypts {
		return agent.BothCards
	}
	return agent.LoopCards
}

// loopKeysOf are the keys of closed-loop cards; what says why there are none. No file: none.
func loopKeysOf(file configs.Path) (keys hardware.LoopKeys, what string) {
	if file == "" {
		return keys, ""
	}
	b, err := os.ReadFile(string(file)) //nolint:gosec // the technician's
	if err == nil {
		keys, err = hardware.ParseLoopKeys(b)
		clear(b)
	}
	if err != nil {
		return keys, err.Error()
	}
	return keys, ""
}

// triggers are how a scanner is told to look; none is not among them.
var triggers = map[string]scanner.Trigger{"honeywell": scanner.Honeywell, "newland": scanner.Newland, "gm65": scanner.GM65}

// scannerPort is a scanner as findPort wants it.
func scannerPort(s configs.Scanner) string {
	if s.Driver == "keyboard" {
		return typing + "scanner"
	}
	return "scanner"
}

func scannerOf(s configs.Scanner, path string) func(agent.Wiring) (agent.Scanner, error) {
	baud, _ := strconv.Atoi(s.Speed) // one of those it knows
	return agent.CodeScanner(scanner.Config{Path: path, Keyboard: s.Driver == "keyboard", Baud: baud, Trigger: triggers[s.Trigger]})
}
