-- Value of closed-loop cards. An account's balance and holds are the sums of its entries, which are only ever
-- added; the operations it was asked for keep their answers.

-- +goose Up
create table account (
  id         blob primary key not null,
  tenant     text not null,
  currency   integer not null,
  card       text not null,    -- the card's id, or what can be copied: uid:..., loop:...
  unverified integer not null, -- 1: opened for what can be copied
  state      integer not null,
  label      text not null,
  balance    integer not null, -- minor units; held is a part of it
  held       integer not null,
  counter    integer not null, -- the highest a reader has seen on the card
  opened     integer not null,
  version    integer not null
);
create unique index account_card on account (tenant, currency, card);

create table account_entry (
  seq     integer primary key,
  key     text not null unique, -- what caused it: a repeat adds nothing
  account blob not null,
  kind    integer not null,
  balance integer not null,     -- change of the account's
  held    integer not null,
  payment blob,
  device  text not null,
  at      integer not null,
  note    text not null
);
create index account_entry_account on account_entry (account, seq);
create index account_entry_payment on account_entry (payment) where payment is not null;

create table account_op (
  payment blob not null,
  kind    integer not null,
  n       integer not null,
  account blob,
  answer  blob not null,
  primary key (payment, kind, n)
) without rowid;
