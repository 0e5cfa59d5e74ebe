import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Security;
import java.security.cert.*;
import java.util.*;

/**
 * Judges certificate paths with the JDK's PKIX validator. Each argument is
 * "name=method:root,crls,leaf,issuer...": files in DER; method is crl, or leaf for the first alone (from files,
 * separated by +, and certificates of their signers), fetch (from distribution points) or ocsp. Prints one line
 * for each: the name and GOOD, or the reason of the refusal.
 */
public class Pkix {
    public static void main(String[] args) throws Exception {
        System.setProperty("com.sun.security.enableCRLDP", "true");
        Security.setProperty("ocsp.enable", "true");
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        for (String arg : args) {
            String name = arg.substring(0, arg.indexOf('='));
            String method = arg.substring(name.length() + 1, arg.indexOf(':'));
            String[] files = arg.substring(arg.indexOf(':') + 1).split(",");
            System.out.println(name + " " + judge(factory, method, files));
        }
    }

    static String judge(CertificateFactory factory, String method, String[] files) throws Exception {
        List<Certificate> path = new ArrayList<>();
        for (int i = 2; i < files.length; i++) {
            path.add(factory.generateCertificate(read(files[i])));
        }
        TrustAnchor anchor = new TrustAnchor((X509Certificate) factory.generateCertificate(read(files[0])), null);
        PKIXParameters params = new PKIXParameters(Set.of(anchor));
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        Set<PKIXRevocationChecker.Option> options = EnumSet.of(PKIXRevocationChecker.Option.NO_FALLBACK);
        if (method.equals("ocsp")) {
            options.add(PKIXRevocationChecker.Option.ONLY_END_ENTITY);
        } else {
            options.add(PKIXRevocationChecker.Option.PREFER_CRLS);
        }
        if (method.equals("fetch") || method.equals("leaf")) {
            options.add(PKIXRevocationChecker.Option.ONLY_END_ENTITY);
        }
        checker.setOptions(options);
        params.addCertPathChecker(checker);
        List<Object> found = new ArrayList<>();
        if (method.equals("crl") || method.equals("leaf")) {
            for (String f : files[1].split("\\+")) {
                found.add(f.endsWith(".crl") ? factory.generateCRL(read(f)) : factory.generateCertificate(read(f)));
            }
        }
        params.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(found)));
        try {
            validator.validate(factory.generateCertPath(path), params);
            return "GOOD";
        } catch (CertPathValidatorException e) {
            return String.valueOf(e.getReason());
        }
    }

    static ByteArrayInputStream read(String file) throws Exception {
        return new ByteArrayInputStream(Files.readAllBytes(Path.of(file)));
    }
}
