-- Bodies are CBOR, stored once; a column beside a body is there because something searches it. Times
-- are Unix milliseconds. Ids of 16 and hashes of 32 bytes are blobs; null stands for none.

-- +goose Up
create table meta (
  key   text primary key not null,
  value blob not null
);

create table device (
  id     text primary key not null,
  tenant text not null,
  body   blob not null
);

create table payment (
  id      blob primary key not null,
  sale    blob not null,
  device  text not null,
  tenant  text not null,
  class   integer not null,
  state   integer not null,
  takes   integer not null, -- 1: is being or was captured
  due     integer,          -- must be looked at then although nobody asks
  version integer not null,
  body    blob not null
);
create index payment_sale on payment (sale);
create index payment_device on payment (device, id);
create index payment_due on payment (due) where due is not null;
-- Of a live sale one payment at most is captured. Class 1 is live.
create unique index payment_taker on payment (sale) where takes = 1 and class = 1;

create table op (
  seq     integer primary key autoincrement, -- the order of insertion
  payment blob not null,
  kind    integer not null,
  n       integer not null,
  device  text not null,
  link    text not null,
  follows integer not null,
  state   integer not null,
  ready   integer,          -- claimable from then on; null: not by time
  due     integer not null,
  lease   integer not null,
  owed    integer not null,
  tries   integer not null,
  body    blob not null,
  unique (payment, kind, n)
);
-- States below 4 are open.
create index op_open on op (ready) where state < 4;
create index op_owed on op (device) where state = 2;

create table stan (
  link text not null,
  tid  text not null,
  last integer not null,
  primary key (link, tid)
);

create table card (
  payment blob primary key not null,
  kept    blob not null
);

-- Rows are only ever added.
create table transfer (
  seq      integer primary key autoincrement,
  id       blob not null unique,
  kind     integer not null,
  ends     blob,            -- of a void: the pending transfer
  tenant   text not null,
  debit    integer not null,
  credit   integer not null,
  currency integer not null,
  minor    integer not null,
  payment  blob,
  device   text not null,
  day      text not null
);
create unique index transfer_ends on transfer (ends) where ends is not null;

create table head (
  device   text primary key not null,
  epoch    blob not null,
  seq      integer not null,
  hash     blob not null,
  stopped  text not null,
  released integer not null,
  serial   text not null,
  version  integer not null
);

-- Rows are only ever added.
create table record (
  device      text not null,
  epoch       blob not null,
  seq         integer not null,
  hash        blob not null,
  kind        integer not null,
  lane        integer not null,
  sale        blob,
  disposition integer not null,
  quarantine  integer not null,
  received    integer not null,
  bytes       blob not null,
  primary key (device, epoch, seq)
);
create index record_sale on record (sale) where sale is not null;
create index record_quarantined on record (device, epoch, seq) where disposition = 3;

create table disposition (
  device text not null,
  cursor integer not null, -- counts from 1 per device
  body   blob not null,
  primary key (device, cursor)
);

create table incident (
  seq     integer primary key autoincrement,
  name    integer not null,
  device  text not null,
  payment blob,
  at      integer not null,
  detail  text not null
);

create table sale_case (
  id      blob primary key not null,
  cause   integer not null,
  tenant  text not null,
  device  text not null,
  sale    blob,
  payment blob,
  charged integer not null,
  opened  integer not null
);

create table change (
  seq     integer primary key autoincrement,
  at      integer not null,
  what    text not null,
  device  text not null,
  sale    blob,
  payment blob,
  detail  text not null
);
