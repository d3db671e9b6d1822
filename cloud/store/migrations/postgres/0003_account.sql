-- Value of closed-loop cards. An account's balance and holds are the sums of its entries, which are only ever
-- added; the operations it was asked for keep their answers.

-- +goose Up
create table account (
  id         bytea primary key not null,
  tenant     text collate "C" not null,
  currency   bigint not null,
  card       text collate "C" not null,    -- the card's id, or what can be copied: uid:..., loop:...
  unverified bigint not null, -- 1: opened for what can be copied
  state      bigint not null,
  label      text collate "C" not null,
  balance    bigint not null, -- minor units; held is a part of it
  held       bigint not null,
  counter    bigint not null, -- the highest a reader has seen on the card
  opened     bigint not null,
  version    bigint not null
);
create unique index account_card on account (tenant, currency, card);

create table account_entry (
  seq     bigint generated always as identity primary key,
  key     text collate "C" not null unique, -- what caused it: a repeat adds nothing
  account bytea not null,
  kind    bigint not null,
  balance bigint not null,     -- change of the account's
  held    bigint not null,
  payment bytea,
  device  text collate "C" not null,
  at      bigint not null,
  note    text collate "C" not null
);
create index account_entry_account on account_entry (account, seq);
create index account_entry_payment on account_entry (payment) where payment is not null;

create table account_op (
  payment bytea not null,
  kind    bigint not null,
  n       bigint not null,
  account bytea,
  answer  bytea not null,
  primary key (payment, kind, n)
);
