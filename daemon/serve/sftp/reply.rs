//! How an answer looks on the wire: one function maps reasons to status codes, and one batches answers for sending.

use bytes::{BufMut, Bytes, BytesMut};
use russh_sftp::protocol::{
    Attrs, ExtendedReply, File, FileAttributes, Handle, Name, Packet, Status, StatusCode,
};

use crate::policy::reason::Reason;

const DATA: u8 = 103;

/// The answer to a cold request.
#[derive(Debug)]
pub enum Answer {
    /// SSH_FXP_STATUS with SSH_FX_OK
    Done,
    /// SSH_FXP_STATUS with SSH_FX_EOF
    End,
    /// SSH_FXP_HANDLE
    Handle(String),
    /// SSH_FXP_NAME
    Names(Vec<File>),
    /// SSH_FXP_ATTRS
    Attributes(FileAttributes),
    /// SSH_FXP_EXTENDED_REPLY
    Extended(Vec<u8>),
    /// No answer from here: the task that reads files gives it.
    Later,
}

/// What goes wrong is a reason, or a malformed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is turned down.
    Reason(Reason),
    /// It cannot be decoded.
    BadMessage,
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

/// Answers on their way out.
#[derive(Debug, Default)]
pub struct Replies(BytesMut);

impl Replies {
    /// Adds the answer to a request.
    pub fn push(&mut self, id: u32, answer: Result<Answer, Fault>) {
        let packet = match answer {
            Ok(Answer::Done) => status(id, StatusCode::Ok, ""),
            Ok(Answer::End) => status(id, StatusCode::Eof, ""),
            Ok(Answer::Handle(handle)) => Packet::Handle(Handle { id, handle }),
            Ok(Answer::Names(files)) => Packet::Name(Name { id, files }),
            Ok(Answer::Attributes(attrs)) => Packet::Attrs(Attrs { id, attrs }),
            Ok(Answer::Extended(data)) => Packet::ExtendedReply(ExtendedReply { id, data }),
            Ok(Answer::Later) => return,
            Err(Fault::BadMessage) => status(id, StatusCode::BadMessage, "malformed request"),
            Err(Fault::Reason(reason)) => refusal(id, &reason),
        };
        self.push_packet(id, packet);
    }

    /// The answer to WRITE, which is by far the most frequent: no serde, no allocation.
    pub fn push_ok(&mut self, id: u32) {
        const STATUS: u8 = 101;
        self.0.put_u32(17);
        self.0.put_u8(STATUS);
        self.0.put_u32(id);
        self.0.put_u32(StatusCode::Ok as u32);
        self.0.put_u32(0);
        self.0.put_u32(0);
    }

    /// Adds any packet.
    pub fn push_packet(&mut self, id: u32, packet: Packet) {
        let encoded =
            Bytes::try_from(packet).or_else(|_| Bytes::try_from(Packet::error(id, StatusCode::Failure)));
        if let Ok(bytes) = encoded {
            self.0.extend_from_slice(&bytes);
        }
    }

    /// Bytes of the answers that wait.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, for one SSH packet or a few.
    pub fn take(&mut self) -> Bytes {
        self.0.split().freeze()
    }

    /// Gives the memory back.
    pub fn release(&mut self) {
        if self.0.is_empty() {
            self.0 = BytesMut::new();
        }
    }
}

/// An encoded refusal, for the task that reads files.
pub fn encoded_refusal(id: u32, reason: &Reason) -> Bytes {
    Bytes::try_from(refusal(id, reason)).unwrap_or_default()
}

/// An encoded end of file.
pub fn encoded_end(id: u32) -> Bytes {
    Bytes::try_from(status(id, StatusCode::Eof, "")).unwrap_or_default()
}

/// Bytes before the data: length, type, id, length of the data.
pub const DATA_FIELDS: usize = 4 + 1 + 4 + 4;

/// The fields of SSH_FXP_DATA before so many bytes of data.
pub fn data_fields(id: u32, filled: usize) -> [u8; DATA_FIELDS] {
    let (length, packet) = (u32::try_from(filled).unwrap_or(0), u32::try_from(filled + 9).unwrap_or(0));
    let mut fields = [0; DATA_FIELDS];
    let mut rest = fields.as_mut_slice();
    rest.put_u32(packet);
    rest.put_u8(DATA);
    rest.put_u32(id);
    rest.put_u32(length);
    fields
}

fn refusal(id: u32, reason: &Reason) -> Packet {
    status(id, status_code(reason), &format!("{} | {}", reason.dutch(), reason.english()))
}

fn status(id: u32, status_code: StatusCode, text: &str) -> Packet {
    Packet::Status(Status { id, status_code, error_message: text.to_owned(), language_tag: String::new() })
}

/// SFTP 3 knows codes 0 to 8 only; anything above confuses half of the clients.
fn status_code(reason: &Reason) -> StatusCode {
    match reason {
        Reason::NoSuchPath => StatusCode::NoSuchFile,
        Reason::Unsupported => StatusCode::OpUnsupported,
        Reason::NameInUse
        | Reason::TooManyOpen
        | Reason::TooManyUnfinished
        | Reason::Unavailable
        | Reason::SpoolFull
        | Reason::CannotBeChecked
        | Reason::CutShort
        | Reason::WritesOutOfOrder => StatusCode::Failure,
        Reason::BadName
        | Reason::FolderIsReadOnly
        | Reason::DropIsWriteOnly
        | Reason::NotYourPart
        | Reason::NameNotAccepted
        | Reason::AgreementNotBegun { .. }
        | Reason::AgreementEnded { .. }
        | Reason::NotEncrypted
        | Reason::HeaderMalformed
        | Reason::HeaderTooLarge
        | Reason::PassphraseEncrypted
        | Reason::ArmorNotAccepted
        | Reason::Damaged
        | Reason::NotForUs
        | Reason::TooLarge { .. }
        | Reason::Empty
        | Reason::HeaderRewritten
        | Reason::NotATable { .. }
        | Reason::ColumnsNotAgreed
        | Reason::ContentRules
        | Reason::SheetUnreadable { .. }
        | Reason::Surplus { .. }
        | Reason::SurplusKey
        | Reason::FlowNotReady
        | Reason::CommandFailed
        | Reason::JobFailed
        | Reason::JobDeferred
        | Reason::TriesExhausted
        | Reason::JobTooLong
        | Reason::ResultTooLarge
        | Reason::JobMemory
        | Reason::Discarded
        | Reason::ArrivalUnreadable
        | Reason::SameContentAgain { .. }
        | Reason::SameContentElsewhere
        | Reason::NoLongerConfigured => StatusCode::PermissionDenied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hand_made_packets_are_what_the_codec_makes() {
        let mut replies = Replies::default();
        replies.push_ok(7);
        assert_eq!(replies.take(), Bytes::try_from(status(7, StatusCode::Ok, "")).unwrap());
        let codec = Packet::Data(russh_sftp::protocol::Data { id: 9, data: b"abc".to_vec() });
        let ours = [data_fields(9, 3).as_slice(), b"abc"].concat();
        assert_eq!(ours, Bytes::try_from(codec).unwrap());
    }
}
