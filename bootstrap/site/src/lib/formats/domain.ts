// Domain strings of everything that is signed or hashed; those of `core/proto/src/wire.rs`.

export const ACCOUNT_RECORD = 'offhook/account-record/1';
export const CHOSEN_CERT = 'offhook/chosen-cert/1';
export const BACKUP = 'offhook/backup/1';
export const BACKUP_KEY = 'offhook/backup-key/1';
export const RECOVERY = 'offhook/recovery/1';
export const BACKUP_AT = 'offhook/backup-at/1';
export const CHOSEN_NUMBER = 'offhook/number/chosen/1';
export const NUMBER_TRANSFER = 'offhook/number-transfer/1';
export const DIRECTORY_REQUEST = 'offhook/directory-request/1';
