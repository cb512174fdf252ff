import java.io.FileInputStream;
import java.util.Map;
import java.util.TreeMap;
import org.verapdf.gf.foundry.VeraGreenfieldFoundryProvider;
import org.verapdf.pdfa.Foundries;
import org.verapdf.pdfa.PDFAParser;
import org.verapdf.pdfa.PDFAValidator;
import org.verapdf.pdfa.flavours.PDFAFlavour;
import org.verapdf.pdfa.results.TestAssertion;
import org.verapdf.pdfa.results.ValidationResult;

/** Says for each flavour whether a PDF conforms, and the first place of each rule that it breaks. */
public class Vera {
    public static void main(String[] arguments) throws Exception {
        VeraGreenfieldFoundryProvider.initialise();
        for (int i = 1; i < arguments.length; i++) {
            PDFAFlavour flavour = PDFAFlavour.byFlavourId(arguments[i]);
            try (PDFAParser parser = Foundries.defaultInstance().createParser(new FileInputStream(arguments[0]), flavour)) {
                PDFAValidator validator = Foundries.defaultInstance().createValidator(flavour, 10000, false, false, false);
                ValidationResult result = validator.validate(parser);
                System.out.println(arguments[i] + " " + (result.isCompliant() ? "PASS" : "FAIL"));
                Map<String, Integer> count = new TreeMap<>();
                Map<String, String> first = new TreeMap<>();
                for (TestAssertion one : result.getTestAssertions()) {
                    String rule = one.getRuleId().getClause() + "-" + one.getRuleId().getTestNumber();
                    count.merge(rule, 1, Integer::sum);
                    first.putIfAbsent(rule, one.getMessage() + " @ " + one.getLocation().getContext());
                }
                for (String rule : count.keySet()) System.out.println("  " + rule + " x" + count.get(rule) + ": " + first.get(rule));
            }
        }
    }
}
