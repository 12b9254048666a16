// What the directory's HTTP API (`/api/v1`) takes and gives. `bytes` are base64url without padding, times Unix milliseconds.

/** Bytes in JSON: base64url without padding. */
export type Bytes = string;
/** Milliseconds since 1970-01-01 UTC. */
export type Millis = number;

/** A file that visitors may download. */
export interface Download {
  name: string;
  size: number;
  sha256: string;
  url: string;
}

/** What the operator shows of the running directory. A field that is missing is not shown. */
export interface NodeStatus {
  status?: string;
  started?: Millis;
  version?: string;
  peers?: number;
  registered?: number;
  dht_nodes?: number;
  records?: number;
  accounts?: number;
  relay?: boolean;
  mailbox?: boolean;
  notice?: string;
  contact?: string;
}

/** `GET /info`. */
export interface Info {
  /** Null: a directory without a name, which gives twelve digits only. */
  name: string | null;
  directory: string;
  signup: 'open' | 'closed';
  chosen: boolean;
  max_numbers: number;
  version: string;
  downloads: Download[];
  node: NodeStatus;
}

/** A chosen number of an account. */
export interface ChosenNumber {
  number: string;
  issued: Millis;
  expires: Millis;
  certificate: Bytes;
}

/** What the directory knows of an account. */
export interface Account {
  id: string;
  identity: string;
  number: string;
  chosen: ChosenNumber[];
  backup_version: number;
  created: Millis;
}

/** A session, as sign-up, log-in and `GET /session` give it. */
export interface SessionAnswer {
  csrf: string;
  account: Account;
}

/** A sealed backup. */
export interface SealedBackup {
  version: number;
  data: Bytes;
}

/** Whether a wished number may be had. */
export type NumberState = 'free' | 'taken' | 'reserved' | 'look_alike' | 'invalid';

/** `GET /numbers/{typed}`: `number` is the canonical full form. */
export interface Availability {
  number: string;
  state: NumberState;
  reason?: string;
}

/** A terminal of the account. */
export interface Terminal {
  terminal: string;
  certified: Millis;
  expires: Millis;
  online: boolean;
}

/** `GET /account/terminals`: the terminals, and the account records that the directory holds, one for each number. */
export interface Terminals {
  terminals: Terminal[];
  records: Bytes[];
}

/** `GET /list`. */
export interface ListHead {
  head: Bytes;
  entries: Bytes[];
}
