//! What lies beside the receipts of an institution so that it can check them without us: the public key, and a page that
//! says how, in Dutch and English. When they are written is `work`'s business.

use super::path::Name;
use super::signature::{self, Namespace, ZoneKey};

/// The public key, as `ssh-keygen -Y verify -f` wants it.
pub const ALLOWED_SIGNERS: &str = "allowed_signers";
/// The page.
pub const README: &str = "LEESMIJ-README.txt";

/// The name of the signature that lies beside a file; the file's name leaves room for it.
pub fn signature_name(of: &Name) -> Option<Name> {
    Name::parse(&format!("{of}{}", signature::ENDING)).ok()
}

/// The page. CRLF, because Windows' editors are where it is read.
pub fn readme(key: &ZoneKey) -> String {
    let fingerprint = key.fingerprint();
    let (signer, receipt, head) =
        (signature::SIGNER, Namespace::Receipt.as_str(), Namespace::LogHead.as_str());
    let text = format!(
        "NEDERLANDS

In deze map ligt voor elk bestand dat u hebt ingediend een ontvangstbewijs (NAAM.json) met een handtekening
(NAAM.json.sig). Zo controleert u dat het ontvangstbewijs van deze dropzone komt en dat niemand het heeft gewijzigd:

1. Haal NAAM.json, NAAM.json.sig en allowed_signers op.
2. ssh-keygen -Y verify -f allowed_signers -I {signer} -n {receipt} -s NAAM.json.sig < NAAM.json
3. Vergelijk de vingerafdruk die het commando toont met die welke u langs een andere weg van ons kreeg.
   Deze dropzone zegt: {fingerprint}

\"Good\" met die vingerafdruk betekent: echt en ongewijzigd. ssh-keygen hoort bij OpenSSH (Windows, macOS, Linux).
Een ontvangstbewijs wordt vervangen als de verwerking eindigt: haal beide bestanden opnieuw op als ze net dan niet bij elkaar pasten.
Bewaar ontvangstbewijs en handtekening samen: zij zijn uw bewijs. Nooit staat er een waarde uit uw lijst in.

Ligt hier ook NAAM.quality.csv: die zegt welke rij en kolom van uw lijst niet in orde is, en wat u moet doen (Excel opent het). Het
ontvangstbewijs noemt de SHA-256 ervan.

Liggen hier bestanden log-JJJJ-MM-DD.head: dat zijn ondertekende standen van het toegangslogboek. Bewaar ze; wie het
logboek achteraf herschrijft, kan ze niet meer waarmaken. Controle: zoals hierboven, met -n {head}

ENGLISH

For each file you put in, this folder holds a receipt (NAME.json) and its signature (NAME.json.sig). To check that
the receipt comes from this drop zone and that nobody has altered it:

1. Fetch NAME.json, NAME.json.sig and allowed_signers.
2. ssh-keygen -Y verify -f allowed_signers -I {signer} -n {receipt} -s NAME.json.sig < NAME.json
3. Compare the fingerprint that the command shows with the one that you were given by us in another way.
   This drop zone says: {fingerprint}

\"Good\" with that fingerprint means: genuine and unaltered. ssh-keygen is part of OpenSSH (Windows, macOS, Linux).
A receipt is replaced when processing ends: fetch both files again if they did not fit each other just then.
Keep receipt and signature together: they are your proof. They never hold a value from your list.

If there is a NAME.quality.csv too: it says which row and column of your list is not in order, and what to do (Excel opens it). The
receipt names its SHA-256.

If there are files log-YYYY-MM-DD.head here: they are signed states of the access log. Keep them; whoever rewrites the
log afterwards cannot make them true again. To check one: as above, with -n {head}
"
    );
    text.replace('\n', "\r\n")
}

#[cfg(test)]
mod tests {
    use super::super::signature::tests::private_key;
    use super::*;

    #[test]
    fn the_page_names_the_key_and_the_command_in_both_languages() {
        let key = ZoneKey::new(private_key(1).public_key().clone());
        let text = readme(&key);
        let command = "ssh-keygen -Y verify -f allowed_signers -I dropzone-zone -n receipt@dropzone -s";
        assert_eq!(text.matches(command).count(), 2);
        assert_eq!(text.matches(&key.fingerprint()).count(), 2);
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 150));
    }
}
