package protocol

import (
	"errors"
	"strings"
)

// Topic is an MQTT topic of the machine plane: coinop/v1/{device}/{up|dn}/{leaf}. It is the
// external data of every sealed or signed message.
type Topic string

// Leaf is what follows the device in a topic.
type Leaf string

// Leaves. Devices write up/…, the cloud dn/….
const (
	UpConn       Leaf = "up/conn"
	UpAuth       Leaf = "up/auth"
	UpJournal    Leaf = "up/journal"
	UpEvent      Leaf = "up/event"
	UpReply      Leaf = "up/reply"
	UpTraces     Leaf = "up/otlp/traces" // OTLP protobuf, gzip; as are the two below
	UpMetrics    Leaf = "up/otlp/metrics"
	UpLogs       Leaf = "up/otlp/logs"
	DnAuth       Leaf = "dn/auth"
	DnAck        Leaf = "dn/ack"
	DnCheckpoint Leaf = "dn/checkpoint"
	DnCmd        Leaf = "dn/cmd"
	DnPolicy     Leaf = "dn/policy"
)

const topicRoot = "coinop/v1/"

// ErrTopic means a topic is not of the machine plane.
var ErrTopic = errors.New("not a topic of the machine plane")

// TopicOf is the topic of a device's leaf.
func TopicOf(d DeviceID, l Leaf) Topic { return Topic(topicRoot + string(d) + "/" + string(l)) }

// UpFilter is the filter of one upward leaf of all devices.
func UpFilter(l Leaf) string { return topicRoot + "+/" + string(l) }

// DownFilter is what a device subscribes.
func DownFilter(d DeviceID) string { return topicRoot + string(d) + "/dn/#" }

// ParseTopic splits a topic. Leaves not in the list above are returned as they are.
func ParseTopic(t Topic) (DeviceID, Leaf, error) {
	rest, ok := strings.CutPrefix(string(t), topicRoot)
	if !ok {
		return "", "", ErrTopic
	}
	dev, leaf, ok := strings.Cut(rest, "/")
	d := DeviceID(dev)
	if !ok || d.Check() != nil || leaf == "" {
		return "", "", ErrTopic
	}
	return d, Leaf(leaf), nil
}
